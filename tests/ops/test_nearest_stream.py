"""Targets in a file: the answers of memory, whatever the chunks; damaged files are errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fastgan.errors import BadFile, ConfigError, CorruptFile
from fastgan.ops import implementation, nearest, nearest_stream

ROW = 6 * 4  # bytes of a row of the file below


@pytest.fixture
def rows() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    values[20:30] = values[:10]  # ties over chunks
    return values


@pytest.fixture
def path(tmp_path: Path, rows: np.ndarray) -> Path:
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path / "rows.npy"


@pytest.mark.parametrize("chunk_bytes", [1, 3 * ROW, 7 * ROW + 5, 49 * ROW, 2**20])
@pytest.mark.parametrize("implemented", ["auto", "reference"])
def test_same_for_every_chunk_size(path, rows, chunk_bytes, implemented) -> None:
    query = torch.from_numpy(np.concatenate((rows[:4], rows[30:33] + 1)))
    group, own = torch.arange(50) // 5, torch.arange(7) + 1
    seen: list[tuple[int, int]] = []
    with implementation(implemented):
        for exclude in (None, (own, group)):
            expected = nearest(query, torch.from_numpy(rows), 9, exclude=exclude)
            seen.clear()
            found = nearest_stream(
                query,
                path,
                9,
                exclude=exclude,
                chunk_bytes=chunk_bytes,
                progress=lambda done, total: seen.append((done, total)),
            )
            assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
            assert seen[-1] == (50, 50) and len(seen) == -(-50 // max(1, chunk_bytes // ROW))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int16, np.int8, np.uint8])
def test_dtypes_and_volumes(tmp_path, dtype) -> None:
    values = np.random.default_rng(0).integers(0, 100, (11, 2, 3, 4)).astype(dtype)
    np.save(tmp_path / "volumes.npy", values)
    query = torch.from_numpy(values[:5])
    found = nearest_stream(query, str(tmp_path / "volumes.npy"), 3, chunk_bytes=50)
    expected = nearest(query, torch.from_numpy(values), 3)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_memory_maps_and_their_slices(path, rows, tmp_path) -> None:
    mapped = np.load(path, mmap_mode="r")
    raw = tmp_path / "rows.bin"
    raw.write_bytes(b"header!!" + rows.tobytes())
    plain = np.memmap(raw, np.float32, "r", offset=8, shape=(50, 6))
    query = torch.from_numpy(rows[25:40] + 1)
    for target in (mapped, plain, mapped[10:31], plain[7:][1:]):
        expected = nearest(query, torch.from_numpy(np.array(target)), 4)
        found = nearest_stream(query, target, 4, chunk_bytes=5 * ROW)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    with pytest.raises(BadFile, match="must be C-contiguous"):
        nearest_stream(query, mapped[::2])


def test_a_file_that_shrinks_is_an_error(path, rows) -> None:
    mapped = np.load(path, mmap_mode="r")
    size = path.stat().st_size

    def cut(done: int, total: int) -> None:
        os.truncate(path, size - 30 * ROW)

    with pytest.raises(CorruptFile, match=rf"{size - 30 * ROW} bytes, but {size} belong"):
        nearest_stream(torch.from_numpy(rows[:2]), mapped, chunk_bytes=4 * ROW, progress=cut)


def test_a_read_that_ends_early_is_an_error(path, rows, monkeypatch) -> None:
    # The file is cut after its size was looked at.
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(CorruptFile, match="cut while read"):
        nearest_stream(torch.from_numpy(rows[:2]), path)


def test_bad_rows_are_counted_over_chunks(path, rows) -> None:
    rows[3], rows[44] = np.nan, np.inf
    np.save(path, rows)
    with pytest.warns(UserWarning, match="1 of 4 queries and 2 of 50 targets"):
        found = nearest_stream(torch.from_numpy(rows[:4]), path, 5, chunk_bytes=3 * ROW)
    with pytest.warns(UserWarning, match="1 of 4 queries and 2 of 50 targets"):
        expected = nearest(torch.from_numpy(rows[:4]), torch.from_numpy(rows), 5)
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0, equal_nan=True)


def test_rejects_damaged_and_unfit_files(path, rows, tmp_path) -> None:
    query = torch.from_numpy(rows[:2])
    with pytest.raises(BadFile, match="cannot be read: No such file"):
        nearest_stream(query, tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("hello, this is text")
    with pytest.raises(BadFile, match=r"no \.npy file"):
        nearest_stream(query, tmp_path / "text.npy")
    (tmp_path / "cut.npy").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match="belong to its targets"):
        nearest_stream(query, tmp_path / "cut.npy")
    for name, values, message in (
        ("order", np.asfortranarray(rows), "must be in C order"),
        ("dtype", rows.astype(np.int64), "dtype must be one of float64"),
        ("endian", rows.astype(">f4"), "dtype must be one of float64"),
    ):
        np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(BadFile, match=message):
            nearest_stream(query, tmp_path / f"{name}.npy")
    np.save(tmp_path / "objects.npy", np.array([[1], [None]], dtype=object), allow_pickle=True)
    with pytest.raises(BadFile, match="dtype must be one of"):
        nearest_stream(query, tmp_path / "objects.npy")


def test_rejects_bad_arguments(path, rows) -> None:
    query = torch.from_numpy(rows[:2])
    for call, message in (
        (lambda: nearest_stream(query, path, 51), "k must be 1 to M = 50, got 51"),
        (lambda: nearest_stream(query[:, :5], path), r"target must be \[M, 5\] like query"),
        (lambda: nearest_stream(query.double(), path), "target must be torch.float64 like query"),
        (lambda: nearest_stream(query, path, chunk_bytes=0), "chunk_bytes must be at least 1"),
        (
            lambda: nearest_stream(
                query, path, 50, exclude=(torch.arange(2), torch.arange(50)), chunk_bytes=99
            ),
            "query 0 has 49 targets left",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
    np.save(path, rows[:0])
    with pytest.raises(ConfigError, match=r"target must be .* and not empty"):
        nearest_stream(query, path)
