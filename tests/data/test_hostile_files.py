"""Files that are made to hang, fill the memory or change under the reader; caches that lie."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.config import DataConfig
from fastgan.data import assembly, open_dataset, read_volume, save_volume
from fastgan.data.cache import CheckedMap, Prepared, cached, quantise
from fastgan.data.manifest import read_manifest
from fastgan.errors import BadFile, CorruptFile, FastganError, ResourceLimit, UnsafeFile
from fastgan.runs.synthetic import manifest_of

VALUES = np.linspace(-1.0, 1.0, 60, dtype=np.float32).reshape(1, 3, 4, 5)


def _npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        _npy("{'descr': '|V0', 'fortran_order': False, 'shape': (4, 4, 4)}"),
        _npy("{'descr': '|S0', 'fortran_order': False, 'shape': (4, 4, 4)}"),
        _npy("{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (2, 2, 2)}", bytes(16)),
        _npy("{'descr': ('<i2', (2,)), 'fortran_order': False, 'shape': (2, 2)}", bytes(16)),
        _npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1, 1, 1)}", bytes(8)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1, 1)}", bytes(4)),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775808, 1)}"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 300 + ")" * 300 + "}"),
        _npy("{'descr': '<f4', 'fortran_order': 2, 'shape': (1, 1, 1)}", bytes(4)),
        _npy("{'descr': '<c16', 'fortran_order': False, 'shape': (1, 1, 1)}", bytes(16)),
        _npy("{'descr': None, 'fortran_order': False, 'shape': (1, 1, 1)}", bytes(8)),
        _npy("lambda: 0"),
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,) * 10**9}"),
    ],
)
def test_npy_headers_that_numpy_trips_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(FastganError, match=r"a\.npy"):
        read_volume(path)


def test_gzip_of_many_members_takes_linear_time(tmp_path: Path, craft: Any) -> None:
    path = tmp_path / "a.nii.gz"
    nothing = gzip.compress(b"", 1, mtime=0)
    path.write_bytes(gzip.compress(craft()[:352]) + nothing * (2_000_000 // len(nothing)))
    began = time.process_time()
    with pytest.raises(CorruptFile):
        read_volume(path)
    # 20 s before; the bound tells linear from quadratic on any machine.
    assert time.process_time() - began < 8.0


@pytest.mark.parametrize("kind", ["nii.gz", "npz"])
def test_one_rule_for_bombs(tmp_path: Path, craft: Any, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    zeros = np.zeros((512, 512, 160), np.int16)
    if kind == "npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            content = io.BytesIO()
            np.save(content, zeros)
            archive.writestr("volume.npy", content.getvalue())
    else:
        path.write_bytes(gzip.compress(craft(zeros), 9))
    assert path.stat().st_size < zeros.nbytes / 900
    with pytest.raises(ResourceLimit, match="decompression bomb"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.npy", "a.nii", "a.npz", "manifest.csv", "dataset.json"])
def test_giants_of_holes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with open(path, "wb") as file:
        file.truncate(1 << 42)
    config = DataConfig(source=str(tmp_path if "." in name and "json" not in name else path))
    with pytest.raises(FastganError, match=name.replace(".", r"\.")):
        open_dataset(config, "train")


def _make() -> Prepared:
    return Prepared(quantise(VALUES), np.eye(4), {"low": -1000.0, "high": 400.0})


def test_facts_of_the_cache_are_hashed(tmp_path: Path) -> None:
    cached(tmp_path, "a", {}, _make)
    facts = next(tmp_path.glob("*.json"))
    sound = facts.read_bytes()
    calls = []

    def again() -> Prepared:
        calls.append(1)
        return _make()

    changes = [sound.replace(b"-1000.0", b"-2000.0"), sound.replace(b'"record"', b'"recorc"')]
    changes += [sound[:i] + bytes([sound[i] ^ 1]) + sound[i + 1 :] for i in range(len(sound))]
    changes += [b"null", b"{}", b'{"facts_sha256": 1}', b"[" * 90_000]
    for n, changed in enumerate(changes, 1):
        facts.write_bytes(changed)
        found = cached(tmp_path, "a", {}, again)
        assert found.record == {"low": -1000.0, "high": 400.0}
        assert np.array_equal(found.array, quantise(VALUES))
        # White space that JSON does not see is no change of a fact.
        assert len(calls) == n or json.loads(changed) == json.loads(sound)
        while len(calls) < n:
            calls.append(1)


@pytest.mark.parametrize("suffix", ["npy", "json"])
@pytest.mark.parametrize("make", ["link", "pipe"])
def test_links_and_pipes_in_the_cache(tmp_path: Path, suffix: str, make: str) -> None:
    cached(tmp_path / "cache", "a", {}, _make)
    path = next((tmp_path / "cache").glob(f"*.{suffix}"))
    canary = tmp_path / "canary"
    canary.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(canary) if make == "link" else os.mkfifo(path)
    with pytest.raises(UnsafeFile):
        cached(tmp_path / "cache", "a", {}, _make)


@pytest.mark.parametrize("cut", [True, False])
def test_a_map_that_changes_is_noticed(tmp_path: Path, cut: bool) -> None:
    mapped = cached(tmp_path, "a", {}, _make).array
    copied = cached(tmp_path, "a", {}, _make, copy=True).array
    assert isinstance(mapped, CheckedMap) and not isinstance(copied, np.memmap)
    path = next(tmp_path.glob("*.npy"))
    with open(path, "r+b") as file:
        file.truncate(0) if cut else file.write(b"other")
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorruptFile, match="changed while it was in use"):
        mapped[0, 0]
    assert np.array_equal(copied, quantise(VALUES))


def test_a_map_whose_file_is_replaced_or_gone_stays(tmp_path: Path) -> None:
    mapped = cached(tmp_path, "a", {}, _make).array
    path = next(tmp_path.glob("*.npy"))
    path.rename(tmp_path / "away")
    assert np.array_equal(mapped[0], quantise(VALUES)[0])
    path.write_bytes(b"another")
    assert np.array_equal(mapped[0], quantise(VALUES)[0])


def test_a_file_changed_between_hashing_and_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = tmp_path / "data", tmp_path / "cache"
    source.mkdir()
    volumes = np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32)
    for i, volume in enumerate(volumes):
        save_volume(source / f"v{i}.nii", volume, np.eye(4))
    config = DataConfig(source=str(source), shape=(8, 8, 8), holdout=0.0)
    honest = assembly.read_volume

    def late(path: str) -> object:
        save_volume(path, volumes[0] + 5.0, np.eye(4), overwrite=True)
        return honest(path)

    monkeypatch.setattr(assembly, "read_volume", late)
    with pytest.raises(CorruptFile, match="changed while it was read"):
        open_dataset(config, "train", cache_dir=cache)
    assert not list(cache.glob("*"))


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A0", "+1", "-1", "@x", "'quoted"])
def test_no_cell_is_a_formula(tmp_path: Path, name: str) -> None:
    save_volume(tmp_path / "a.nii", np.ones((4, 4, 4)), np.eye(4))
    path = tmp_path / "manifest.csv"
    path.write_bytes(manifest_of([{"path": "a.nii", "label": name, "subject": "s"}]))
    assert "'" + name in path.read_text()
    assert read_manifest(path)[0].label == name


@pytest.mark.parametrize("value", ["x\ny", "x\ry", "a\tb", "a\u2028b"])
def test_names_without_line_breaks(tmp_path: Path, value: str) -> None:
    save_volume(tmp_path / "a.nii", np.ones((4, 4, 4)), np.eye(4))
    (tmp_path / "manifest.csv").write_text(f'path,label\na.nii,"{value}"\n', newline="")
    with pytest.raises(BadFile, match=r"label.*line break"):
        read_manifest(tmp_path / "manifest.csv")
