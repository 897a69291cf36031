"""FreeSurfer's MGH and MGZ; nibabel reads the header, the bytes are checked here."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import numpy as np

from fastgan.data.formats.extras import said
from fastgan.data.formats.shapes import check_affine, check_extents, choose_volume
from fastgan.data.formats.stored import (
    Affine,
    Head,
    Stored,
    check_promise,
    float32_of,
)
from fastgan.data.stream import Reader, opened
from fastgan.errors import BadFile, CorruptFile

__all__ = ["head", "read"]

HEADER_BYTES = 284
FOOTER_BYTES = 64 << 20  # tags behind the data hold text and colour tables
FIRST = struct.Struct(">7i")  # version, width, height, depth, frames, type, degrees of freedom
DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def head(path: Path) -> Head:
    """Grid and number of volumes, from the header alone."""
    with opened(path, packed=_packed(path)) as reader:
        shape, volumes, _, affine = _header(reader.read(HEADER_BYTES), reader, path)
    return Head(shape, affine, volumes)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume; gzip is read to its end, with CRC and size.

    Raises:
        BadFile, CorruptFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    with opened(path, packed=_packed(path)) as reader:
        start = reader.read(HEADER_BYTES)
        shape, volumes, dtype, affine = _header(start, reader, path)
        chosen = choose_volume(volumes, volume, f"{path}: nframes")
        size = int(np.prod(shape)) * dtype.itemsize
        reader.skip(chosen * size)
        data = reader.read(size)
        if len(data) < size:
            raise CorruptFile(f"{path}: data: {len(data)} of {size} bytes; copy it again")
        reader.skip((volumes - chosen - 1) * size)
        reader.read(FOOTER_BYTES)
        reader.finish()
    digest = hashlib.sha256(start + data)
    if volumes > 1:
        digest.update(b"#%d" % chosen)
    warnings = check_affine(affine, f"{path}: Mdc")
    if not struct.unpack_from(">h", start, 28)[0]:
        warnings += ("no orientation set: FreeSurfer's default, coronal, is taken",)
    numbers = np.frombuffer(data, dtype).reshape(shape, order="F")
    return Stored(
        float32_of(numbers, 1.0, 0.0, str(path)),
        affine,
        shape,
        dtype.name,
        1.0,
        0.0,
        digest.hexdigest(),
        warnings=warnings,
    )


def _packed(path: Path) -> bool:
    return path.name.lower().endswith((".mgz", ".gz"))


def _header(
    start: bytes, reader: Reader, path: Path
) -> tuple[tuple[int, int, int], int, np.dtype[np.generic], Affine]:
    from nibabel.freesurfer.mghformat import MGHError, MGHHeader
    from nibabel.spatialimages import HeaderDataError

    if len(start) < HEADER_BYTES:
        raise CorruptFile(f"{path}: header: cut short at {len(start)} of {HEADER_BYTES} bytes")
    version, *extents, frames, kind, _ = FIRST.unpack_from(start)
    if version != 1:
        raise CorruptFile(f"{path}: version: {version} is not MGH's 1; copy it again")
    shape = check_extents(extents, f"{path}: size")
    if frames < 1:
        raise CorruptFile(f"{path}: nframes: {frames} is below 1")
    if kind not in DTYPES:
        raise BadFile(f"{path}: type: {kind} is not read; save it as float by mri_convert")
    dtype = np.dtype(DTYPES[kind])
    size, packed = reader.file_size, reader.compressed
    check_promise((*shape, frames), dtype.itemsize, size, packed, f"{path}: size")
    try:
        found = MGHHeader.from_fileobj(io.BytesIO(start))  # type: ignore[no-untyped-call]
        affine = np.asarray(found.get_affine(), np.float64)
    except (MGHError, HeaderDataError, ValueError, KeyError, OverflowError) as error:
        raise CorruptFile(f"{path}: header: {said(error)}; copy it again") from None
    check_affine(affine, f"{path}: Mdc")
    return shape, frames, dtype, affine
