"""Volumes in .npy and .npz, which hold no orientation of their own."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path

import numpy as np

from fastgan.data.formats.array_file import MAX_BYTES, read_npy, read_npz
from fastgan.data.formats.shapes import check_affine, check_extents, choose_volume
from fastgan.data.formats.stored import Affine, Head, Stored, float32_of, require_numbers
from fastgan.data.stream import opened
from fastgan.errors import BadFile, CorruptFile, ResourceLimit

__all__ = ["head", "read"]


def head(path: Path) -> Head:
    """Grid and number of volumes; the file is read whole."""
    array, affine, _, _ = _open(path)
    return Head(_grid(array.shape, path), affine, array.shape[3] if array.ndim > 3 else 1)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume [D, H, W], or number `volume` of [D, H, W, N].

    Raises:
        BadFile, CorruptFile, UnsafeFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    array, affine, digest, warnings = _open(path)
    shape = _grid(array.shape, path)
    count = math.prod(array.shape[3:])
    if array.ndim > 4 and count > 1:
        raise BadFile(
            f"{path}: shape: {array.shape} where a 3-D volume is meant; a .npz of many volumes "
            "is named as the source itself"
        )
    chosen = choose_volume(count, volume, f"{path}: shape")
    if count > 1:
        digest = hashlib.sha256(f"{digest}#{chosen}".encode()).hexdigest()
    require_numbers(array.dtype, f"{path}: dtype")
    return Stored(
        float32_of(array.reshape(*shape, -1)[..., chosen], 1.0, 0.0, str(path)),
        affine,
        array.shape if count == 1 else shape,
        array.dtype.name,
        1.0,
        0.0,
        digest,
        warnings=warnings,
    )


def _grid(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    if 0 in shape:
        raise BadFile(f"{path}: shape: {shape} holds no voxels")
    return check_extents(shape[:3], f"{path}: shape")


def _open(path: Path) -> tuple[np.ndarray, Affine, str, tuple[str, ...]]:
    with opened(path) as reader:
        if reader.file_size > MAX_BYTES:
            raise ResourceLimit(f"{path}: {reader.file_size} bytes, more than any volume has")
        content = reader.read(reader.file_size)
    digest = hashlib.sha256(content).hexdigest()
    if path.name.lower().endswith(".npy"):
        warning = "no geometry in the file: 1 mm, right-anterior-superior assumed"
        return read_npy(io.BytesIO(content), len(content), str(path)), np.eye(4), digest, (warning,)
    arrays = read_npz(content, str(path))
    names = [n for n, a in arrays.items() if n not in ("affine", "spacing") and a.ndim >= 3]
    if len(names) != 1:
        raise BadFile(
            f"{path}: one array of a volume is meant, found {sorted(names)}; an archive of many "
            "volumes is named as the source itself"
        )
    affine, sheared = _given_affine(arrays, path)
    if "affine" not in arrays:
        sheared = ("no orientation in the file: right-anterior-superior assumed",)
    return arrays[names[0]], affine, digest, sheared


def _given_affine(arrays: dict[str, np.ndarray], path: Path) -> tuple[Affine, tuple[str, ...]]:
    spacing = arrays.get("spacing", np.ones(3))
    affine = arrays.get("affine", np.eye(4))
    if spacing.shape != (3,) or not {spacing.dtype.kind, affine.dtype.kind} <= set("biuf"):
        raise BadFile(f"{path}: affine, spacing: numbers [4, 4] and [3] are meant")
    if "affine" not in arrays:
        if (spacing <= 0).any():
            raise CorruptFile(f"{path}: spacing: {spacing} where millimetres are meant")
        affine = np.diag([*spacing, 1.0])
    affine = np.asarray(affine, np.float64)
    return affine, check_affine(affine, f"{path}: affine, spacing")
