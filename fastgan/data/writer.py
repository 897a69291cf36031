"""Volumes out: whole under their final name or not at all, with geometry and provenance."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.data.content import COMMENT, content_hash
from fastgan.data.formats.nifti_header import Placement, parse_header
from fastgan.data.formats.nifti_pack import MAX_EXTENT, header_bytes, pack_header, placement_of
from fastgan.data.geometry import spacing_of, to_canonical
from fastgan.durable import put_file
from fastgan.errors import ConfigError, NumericsError
from fastgan.guarded import typed

__all__ = ["COMMENT", "save_volume"]

VECTOR = 1007  # NIfTI's intent code for several values per voxel


@typed("the volume")
def save_volume(
    path: Path | str,
    array: np.ndarray,
    affine: np.ndarray,
    *,
    description: str = "",
    provenance: dict[str, Any] | None = None,
    placement: Placement | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a NIfTI-1 file with sform and qform set, in millimetres, or on the grid of another.

    The file appears under its name only when it is complete and on the disk (temporary file,
    fsync, rename, fsync of the folder). The same input gives the same bytes.

    Args:
        path: ends in .nii or .nii.gz.
        array: [D, H, W], or [C, D, H, W] stored as a vector per voxel when C > 1. int16 is stored
            as it is, anything else as float32.
        affine: [4, 4] voxel index to mm. A sheared one is exact in the sform only.
        description: at most 79 bytes of UTF-8.
        provenance: stored as JSON in a header extension; `fastgan` readers and nibabel show it. It
            gets the key "content", the hash of the volume (`fastgan.data.content`).
        placement: `Source.placement` of the file whose grid this is. NIfTI version, extents of 1
            beyond the third, voxel sizes, unit, sform and qform are then that file's, bit for bit,
            and `affine` is not written.
        overwrite: replace an existing file.

    Raises:
        ConfigError: a wrong name, shape, affine or description.
        NumericsError: NaN or infinite voxels.
        BadFile: the file exists, or its folder cannot be written.
        ResourceLimit: no space left.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path}: name must end in .nii or .nii.gz")
    array = np.asarray(array)
    if array.ndim == 4:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 3, 0)[:, :, :, None]
    longest = MAX_EXTENT[placement.version if placement is not None else 1]
    if array.ndim not in (3, 5) or 0 in array.shape or max(array.shape) > longest:
        raise ConfigError(f"{path}: array must be [D, H, W] or [C, D, H, W], got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{path}: array must hold real numbers, got {array.dtype}")
    array = array.astype("<i2" if array.dtype == np.int16 else "<f4")
    if not np.isfinite(array).all():
        raise NumericsError(f"{path}: array has NaN or infinite voxels; nothing written")
    affine = np.asarray(affine, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ConfigError(f"{path}: affine must be a finite [4, 4]")
    if abs(np.linalg.det(affine[:3, :3])) < 1e-2 * np.prod(spacing_of(affine)) or not any(
        spacing_of(affine)
    ):
        raise ConfigError(f"{path}: affine is singular")
    if len(description.encode()) > 79:
        raise ConfigError(f"{path}: description is longer than 79 bytes")
    place = placement_of(affine) if placement is None else placement

    def header_before(extension: bytes) -> bytes:
        return pack_header(
            array.shape if array.ndim == 5 else array.shape + place.trailing,
            array.dtype,
            place,
            description,
            header_bytes(place.version) + len(extension),
            VECTOR if array.ndim == 5 else 0,
        )

    extension = b"\0\0\0\0"
    if provenance is not None:
        extension = _extension(provenance | _content(array, header_before(extension), path))
    header = header_before(extension)
    parts: Iterable[bytes] = (header, extension, array.tobytes(order="F"))
    if path.name.lower().endswith(".gz"):
        parts = _gzip(parts)
    put_file(path, parts, overwrite=overwrite)
    return path


def _content(array: np.ndarray, header: bytes, path: Path) -> dict[str, str]:
    """The hash of what a reader will make of these voxels behind this header."""
    if array.ndim == 5:
        return {}
    size = len(header) + array.nbytes + 4
    grid = parse_header(header, str(path), size, compressed=False)
    canonical, affine, _ = to_canonical(array, grid.affine)
    return {"content": content_hash(canonical, affine)}


def _extension(provenance: Mapping[str, Any]) -> bytes:
    text = json.dumps(provenance, sort_keys=True, default=str).encode()
    # The size counts its own eight bytes and is a multiple of 16, as the standard asks.
    size = -(-(len(text) + 8) // 16) * 16
    return b"\1\0\0\0" + struct.pack("<ii", size, COMMENT) + text.ljust(size - 8, b"\0")


def _gzip(parts: Iterable[bytes]) -> Iterable[bytes]:
    # Level 1: float noise hardly shrinks further. No time stamp, so equal input, equal bytes.
    deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
    for part in parts:
        yield deflate.compress(part)
    yield deflate.flush()
