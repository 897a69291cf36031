"""Prepared volumes as memory-mapped int16 files, keyed by what they were made of."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from fastgan.data.formats.array_file import read_npy
from fastgan.data.normalise import Normalisation
from fastgan.durable import replace_file
from fastgan.errors import BadFile, CorruptFile, UnsafeFile
from fastgan.guarded import open_plain, read_plain, system_error

__all__ = ["FORMAT", "CheckedMap", "Prepared", "cached", "dequantise", "quantise"]

FORMAT = 4  # raised when the preparation changes, so that older files are made again
STEPS = 32767  # int16 over [-1, 1]: 0.03 HU of a 2000 HU window, float16 would leave 0.5
PIECE = 1 << 16
"""Values written, and then scaled, at once: a quarter of a MiB in float32, less than a cache."""


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


def dequantise(stored: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """float32 in [-1, 1] of int16 (value * 32767) or uint8 (0 to 255) voxels.

    Args:
        stored: [C, D, H, W] or any shape; a window of a larger array or a memory map welcome.
        out: float32 of the same shape, any strides, to write to; None makes a new array.

    Cost: one read of `stored` and one write of `out`: what lies between stays in the caches.
    """
    if out is None:
        out = np.empty(stored.shape, np.float32)
    wide = stored.dtype != np.uint8
    scale = np.float32(1.0 / STEPS if wide else 2.0 / 255.0)
    for here, there in zip(_pieces(stored), _pieces(out), strict=True):
        np.copyto(there, here)
        np.multiply(there, scale, out=there)
        if not wide:
            np.subtract(there, np.float32(1.0), out=there)
    return out


def _pieces(array: np.ndarray) -> list[np.ndarray]:
    """Views that cover the array, of about PIECE values where its third axis from last allows."""
    if array.ndim < 3 or array.size <= PIECE:
        return [array]
    planes = max(1, PIECE * array.shape[-3] // array.size)
    starts = range(0, array.shape[-3], planes)
    return [array[..., start : start + planes, :, :] for start in starts]


class CheckedMap(np.memmap[Any, Any]):
    """A memory map that notices, whenever it is read, that its file was changed or cut.

    A program that goes on reading a map whose file was cut is ended by the system.

    Raises:
        CorruptFile: on indexing, where size or time of the file are not what they were.
    """

    path = Path()
    facts: tuple[int, ...] | None = None

    @classmethod
    def of(cls, file: BinaryIO, path: Path, shape: tuple[int, ...]) -> CheckedMap:
        """The int16 values that begin where the file that is open at `path` stands."""
        mapped = cls(file, np.int16, "r", file.tell(), shape)
        mapped.path = path
        mapped.facts = _facts_of(os.fstat(file.fileno()))
        return mapped

    def __getitem__(self, key: Any) -> Any:
        if self.facts is not None:
            self.check()
        return super().__getitem__(key)

    def check(self) -> None:
        """Raise CorruptFile unless the file is what it was when it was verified."""
        try:
            now = _facts_of(os.stat(self.path))
        except FileNotFoundError:  # the map keeps what was removed
            return
        except OSError as error:
            raise system_error(self.path, "look at", error) from error
        # Another file under the name leaves the mapped one as it is.
        if self.facts is not None and now[:2] == self.facts[:2] and now != self.facts:
            raise CorruptFile(
                f"{self.path}: changed while it was in use; remove the cache folder and start again"
            )


def _facts_of(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def cached(
    folder: Path | None,
    digest: str,
    settings: Mapping[str, object],
    prepare: Callable[[], Prepared],
    *,
    copy: bool = False,
) -> Prepared:
    """The prepared volume from the cache if it is there and intact, otherwise made and stored.

    Args:
        folder: where the files lie; None keeps the volume in memory.
        digest: of the source file.
        settings: JSON-able; with the digest and FORMAT they are the key.
        prepare: makes the volume.
        copy: read the verified bytes into memory, instead of mapping the file.

    Raises:
        BadFile, ResourceLimit: the cache cannot be written.
        UnsafeFile: a link, pipe or device where a file of the cache belongs.
    """
    if folder is None:
        return prepare()
    text = json.dumps([FORMAT, digest, settings], sort_keys=True)
    stem = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    place = folder / f"{stem}.npy", folder / f"{stem}.json"
    found = _load(*place, copy)
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
        raise system_error(folder, "make the cache folder", error) from error
    replace_file(place[0], content.getvalue())
    # The facts are written last: without them the array is not looked at.
    replace_file(place[1], json.dumps(facts | {"facts_sha256": _digest(facts)}).encode())
    return _load(*place, copy) or made


def _digest(facts: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _load(array_path: Path, facts_path: Path, copy: bool) -> Prepared | None:
    """The stored volume, or None where it is missing or damaged: it is then made again."""
    try:
        facts = json.loads(read_plain(facts_path))
        if facts.pop("facts_sha256") != _digest(facts):
            return None
        with open_plain(array_path) as file:
            array = _verified(file, array_path, facts["sha256"], copy)
        affine = np.array(facts["affine"], np.float64)
        if array is None or affine.shape != (4, 4) or not isinstance(facts["record"], dict):
            return None
        return Prepared(array, affine, cast(Normalisation, facts["record"]))
    except UnsafeFile:
        raise
    except (BadFile, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _verified(file: BinaryIO, path: Path, sha256: str, copy: bool) -> np.ndarray | None:
    """The array of an open .npy of int16 with this hash, mapped or copied; None of another."""
    digest, parts = hashlib.sha256(), []
    before = _facts_of(os.fstat(file.fileno()))
    while block := file.read(1 << 20):
        digest.update(block)
        if copy:
            parts.append(block)
    if digest.hexdigest() != sha256:
        return None
    if copy:
        content = b"".join(parts)
        return read_npy(io.BytesIO(content), len(content), str(path))
    file.seek(0)
    np.lib.format.read_magic(file)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype != np.int16:
        return None
    mapped = CheckedMap.of(file, path, shape)
    return mapped if mapped.facts == before else None
