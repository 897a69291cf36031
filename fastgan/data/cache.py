"""Prepared volumes as memory-mapped int16 files, keyed by what they were made of."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data.normalise import Normalisation
from fastgan.data.stream import open_regular
from fastgan.durable import replace_file
from fastgan.errors import BadFile

__all__ = ["FORMAT", "Prepared", "cached", "dequantise", "file_digest", "quantise"]

FORMAT = 3  # raised when the preparation changes, so that older files are made again
STEPS = 32767  # int16 over [-1, 1]: 0.03 HU of a 2000 HU window, float16 would leave 0.5


@dataclass(frozen=True)
class Prepared:
    """A volume ready to be drawn from.

    Attributes:
        array: [1, D, H, W] int16, value * 32767; a memory map if cached.
        affine: [4, 4] float64, voxel index to mm.
        record: how its intensities were normalised, JSON-able.
    """

    array: np.ndarray
    affine: np.ndarray
    record: Normalisation


def quantise(values: np.ndarray) -> np.ndarray:
    """int16 of values in [-1, 1], rounded to the nearest step."""
    return np.rint(values * np.float32(STEPS)).astype(np.int16)


def dequantise(stored: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] of int16 (value * 32767) or uint8 (0 to 255) voxels."""
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    return stored.astype(np.float32) * np.float32(1.0 / STEPS)


def file_digest(path: Path | str) -> str:
    """sha256 of a regular file's bytes, hex."""
    digest = hashlib.sha256()
    with open_regular(Path(path)) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cached(
    folder: Path | None,
    digest: str,
    settings: Mapping[str, object],
    prepare: Callable[[], Prepared],
) -> Prepared:
    """The prepared volume from the cache if it is there and intact, otherwise made and stored.

    Args:
        folder: where the files lie; None keeps the volume in memory.
        digest: of the source file.
        settings: JSON-able; with the digest and FORMAT they are the key.
        prepare: makes the volume.
    """
    if folder is None:
        return prepare()
    text = json.dumps([FORMAT, digest, settings], sort_keys=True)
    stem = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    found = _load(folder / f"{stem}.npy", folder / f"{stem}.json")
    if found is not None:
        return found
    made = prepare()
    content = io.BytesIO()
    np.lib.format.write_array(content, made.array, allow_pickle=False)
    facts = {
        "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
        "affine": made.affine.tolist(),
        "record": made.record,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(f"{folder}: cannot make the cache folder: {error.strerror}") from error
    replace_file(folder / f"{stem}.npy", content.getvalue())
    # The facts are written last: without them the array is not looked at.
    replace_file(folder / f"{stem}.json", json.dumps(facts).encode())
    return _load(folder / f"{stem}.npy", folder / f"{stem}.json") or made


def _load(array_path: Path, facts_path: Path) -> Prepared | None:
    """The stored volume, or None where it is missing or damaged: it is then made again."""
    try:
        facts = json.loads(facts_path.read_bytes())
        if file_digest(array_path) != facts["sha256"]:
            return None
        array = np.load(array_path, mmap_mode="r", allow_pickle=False)
        return Prepared(array, np.array(facts["affine"], np.float64), facts["record"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
