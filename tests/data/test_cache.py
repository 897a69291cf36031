"""The cache gives back what was put in, and makes anew whatever was damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.data.cache import Prepared, cached, dequantise, quantise

VALUES = np.linspace(-1.0, 1.0, 60, dtype=np.float32).reshape(1, 3, 4, 5)


def make(calls: list[int]) -> Prepared:
    calls.append(1)
    return Prepared(quantise(VALUES), np.diag([1.0, 2.0, 3.0, 1.0]), {"low": 0.5})


def test_round_trip_and_key(tmp_path: Path) -> None:
    calls: list[int] = []
    for digest, settings, expected in (
        ("a", {"spacing": [1]}, 1),
        ("a", {"spacing": [1]}, 1),
        ("a", {"spacing": [2]}, 2),
        ("b", {"spacing": [1]}, 3),
    ):
        out = cached(tmp_path / "deep", digest, settings, lambda: make(calls))
        assert len(calls) == expected
        assert isinstance(out.array, np.memmap)
        assert np.array_equal(out.array, quantise(VALUES))
        assert np.array_equal(out.affine, np.diag([1.0, 2.0, 3.0, 1.0]))
        assert out.record == {"low": 0.5}
    assert not list(tmp_path.rglob("*.partial"))


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    calls: list[int] = []
    cached(None, "a", {}, lambda: make(calls))
    cached(None, "a", {}, lambda: make(calls))
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "zero", "no array", "no facts", "bad facts"])
def test_damage_is_found_and_repaired(tmp_path: Path, damage: str) -> None:
    calls: list[int] = []
    cached(tmp_path, "a", {}, lambda: make(calls))
    array, facts = next(tmp_path.glob("*.npy")), next(tmp_path.glob("*.json"))
    content = array.read_bytes()
    if damage == "flip":
        array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        array.write_bytes(content[:-2])
    elif damage == "zero":
        array.write_bytes(content[:-40] + bytes(40))
    elif damage == "no array":
        array.unlink()
    elif damage == "no facts":
        facts.unlink()
    else:
        facts.write_text("[]")
    out = cached(tmp_path, "a", {}, lambda: make(calls))
    assert len(calls) == 2
    assert np.array_equal(out.array, quantise(VALUES))
    cached(tmp_path, "a", {}, lambda: make(calls))
    assert len(calls) == 2


def test_quantisation_error() -> None:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, 10_000).astype(np.float32)
    assert np.abs(dequantise(quantise(values)) - values).max() <= 0.51 / 32767
    ends = np.array([-1.0, 0.0, 1.0], np.float32)
    assert np.array_equal(dequantise(quantise(ends)), ends)
    assert dequantise(np.array([0, 255], np.uint8)).tolist() == [-1.0, 1.0]
