"""Small NIfTI files, written field by field so that any of them can be wrong."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HEADER = struct.Struct("<i10s18sihcB8h3fhhhh8f3fhBBffffii80s24shh6f12f16s4s")
# Byte offsets and formats of NIfTI-1 fields that tests break.
FIELDS = {
    "sizeof_hdr": (0, "i"),
    "dim0": (40, "h"),
    "dim1": (42, "h"),
    "dim2": (44, "h"),
    "dim3": (46, "h"),
    "dim4": (48, "h"),
    "dim5": (50, "h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim0": (76, "f"),
    "pixdim1": (80, "f"),
    "pixdim2": (84, "f"),
    "pixdim3": (88, "f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern_b": (256, "f"),
    "qoffset_x": (268, "f"),
    "srow_x0": (280, "f"),
    "srow_y1": (300, "f"),
    "srow_x3": (292, "f"),
    "magic": (344, "4s"),
    "extension": (348, "4s"),
    "esize": (352, "i"),
}
SHAPE = (4, 5, 6)


def craft_nifti(array: np.ndarray | None = None, **changes: Any) -> bytes:
    """A good 4 x 5 x 6 int16 file at 1 x 2 x 3 mm, with the named fields overwritten."""
    if array is None:
        array = np.arange(120, dtype="<i2").reshape(SHAPE)
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512}
    dim = (array.ndim, *array.shape) + (1,) * (7 - array.ndim)
    header = HEADER.pack(
        348,
        b"",
        b"",
        0,
        0,
        b"r",
        0,
        *dim,
        0,
        0,
        0,
        0,
        codes[array.dtype.str[1:]],
        8 * array.itemsize,
        0,
        1,
        1,
        2,
        3,
        1,
        1,
        1,
        1,
        352,
        1,
        0,
        0,
        0,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
        b"",
        b"",
        1,
        1,
        0,
        0,
        0,
        -3,
        -4,
        -5,
        1,
        0,
        0,
        -3,
        0,
        2,
        0,
        -4,
        0,
        0,
        3,
        -5,
        b"",
        b"n+1\0",
    )
    content = bytearray(header + b"\0\0\0\0" + array.tobytes(order="F"))
    for name, value in changes.items():
        offset, kind = FIELDS[name]
        struct.pack_into("<" + kind, content, offset, value)
    return bytes(content)


@pytest.fixture
def craft() -> Callable[..., bytes]:
    return craft_nifti


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write bytes, gzip-packed where the name says so, and return the path."""

    def write(content: bytes, name: str = "a.nii", pack: bool | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = name.endswith(".gz") if pack is None else pack
        path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
        return path

    return write
