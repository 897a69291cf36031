"""NIfTI-1 and NIfTI-2 headers out: little endian, unscaled, the grid given or as it was read."""

from __future__ import annotations

import struct

import numpy as np

from fastgan.data.formats.nifti_header import DATATYPES, HEADER_1, HEADER_2, Placement
from fastgan.data.geometry import quaternion, spacing_of

__all__ = ["MAX_EXTENT", "header_bytes", "pack_header", "placement_of"]

MAX_EXTENT = {1: 32767, 2: 2**31 - 1}  # by NIfTI version; the second is this package's own
MILLIMETRES = 2
HEADER_1_OUT, HEADER_2_OUT = (struct.Struct("<" + h.format) for h in (HEADER_1, HEADER_2))
SCANNER = 1  # code of a transform to scanner coordinates


def placement_of(affine: np.ndarray) -> Placement:
    """The placement of a [4, 4] affine in millimetres, by sform and qform, NIfTI-1."""
    (b, c, d), qfac = quaternion(affine)
    x, y, z = (float(value) for value in affine[:3, 3])
    return Placement(
        version=1,
        trailing=(),
        pixdim=(qfac, *spacing_of(affine), 1.0, 1.0, 1.0, 1.0),
        units=MILLIMETRES,
        qform=(SCANNER, (b, c, d, x, y, z)),
        sform=(SCANNER, tuple(float(value) for value in affine[:3].reshape(-1))),
    )


def header_bytes(version: int) -> int:
    """Length of a header without its extensions."""
    return (HEADER_1 if version == 1 else HEADER_2).size


def pack_header(
    shape: tuple[int, ...],
    dtype: np.dtype,
    place: Placement,
    description: str,
    offset: int,
    intent: int,
) -> bytes:
    """348 bytes of NIfTI-1 or 540 of NIfTI-2.

    Args:
        shape: stored extents, all of them.
        dtype: of the stored numbers.
        place: where the grid lies; its numbers are written as they are.
        description: at most 79 bytes of UTF-8.
        offset: bytes before the data.
        intent: NIfTI's code for what the numbers mean.
    """
    code = next(c for c, name in DATATYPES.items() if np.dtype(name) == dtype)
    bits = 8 * dtype.itemsize
    dim = (len(shape), *shape) + (1,) * (7 - len(shape))
    about = description.encode()[:79]
    (qform, rotation), (sform, rows) = place.qform, place.sform
    slope = (1.0, 0.0)
    if place.version == 2:
        return HEADER_2_OUT.pack(
            *(540, b"n+2\0\r\n\x1a\n", code, bits, *dim),
            *(0.0, 0.0, 0.0, *place.pixdim, offset, *slope, 0.0, 0.0, 0.0, 0.0, 0, 0),
            *(about, b"", qform, sform, *rotation, *rows),
            *(0, place.units, intent, b"", 0, b""),
        )
    return HEADER_1_OUT.pack(
        *(348, b"", b"", 0, 0, b"r", 0, *dim),
        *(0.0, 0.0, 0.0, intent, code, bits, 0, *place.pixdim, float(offset), *slope),
        *(0, 0, place.units, 0.0, 0.0, 0.0, 0.0, 0, 0),
        *(about, b"", qform, sform, *rotation, *rows, b"", b"n+1\0"),
    )
