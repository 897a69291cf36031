"""Pairs of .hdr and .img: NIfTI's, and Analyze 7.5 with SPM's additions as nibabel reads them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from fastgan.data.formats.extras import said
from fastgan.data.formats.nifti import read_pair
from fastgan.data.formats.nifti_header import Header, Placement, parse_header
from fastgan.data.formats.shapes import check_affine, check_extents
from fastgan.data.formats.stored import Head, Stored, check_promise, require_numbers
from fastgan.data.stream import opened
from fastgan.errors import BadFile, CorruptFile

__all__ = ["halves", "head", "read"]

HEADER_BYTES = 348
LONGEST = 1 << 20
NIFTI = (b"ni1\0", b"n+1\0", b"ni2\0", b"n+2\0")


def halves(path: Path) -> tuple[Path, Path]:
    """(.hdr, .img) of either of them; BadFile where the other is missing."""
    found = re.fullmatch(r"(.*)\.(hdr|img)(\.gz)?", path.name, re.IGNORECASE | re.DOTALL)
    assert found is not None, path
    stem, given, packed = found[1], found[2], found[3] or ""
    other = {"hdr": "img", "img": "hdr", "HDR": "IMG", "IMG": "HDR"}.get(given, given)
    partner = path.with_name(f"{stem}.{other}{packed}")
    if not partner.exists():
        raise BadFile(f"{path}: half of a header and image pair: {partner} is missing")
    return (path, partner) if given.lower() == "hdr" else (partner, path)


def head(path: Path) -> Head:
    """Grid and number of volumes, from the header alone."""
    _, header, _ = _header(path, several=True)
    return Head(header.shape, header.affine, header.volumes)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume of a pair; either half may be named.

    Analyze has no orientation: as in nibabel the first axis is taken to run to the patient's left,
    with a warning.

    Raises:
        BadFile, CorruptFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    content, header, image = _header(path, several=volume is not None)
    return read_pair(content, header, image, volume)


def _header(path: Path, several: bool) -> tuple[bytes, Header, Path]:
    about, image = halves(path)
    with opened(about) as reader:
        content = reader.read(LONGEST)
    with opened(image) as reader:
        size, packed = reader.file_size, reader.compressed
    if content[344:348] in NIFTI or content[4:8] in NIFTI:
        header = parse_header(content, str(about), size, packed, several=several, pair=True)
        return content, header, image
    header = _analyze(content, about, size, packed)
    if image.with_suffix(".mat").exists():
        header.warnings.append(f"{image.with_suffix('.mat').name} beside it is not read")
    return content, header, image


def _analyze(content: bytes, path: Path, size: int, packed: bool) -> Header:
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    if len(content) < HEADER_BYTES:
        raise CorruptFile(f"{path}: header: cut short at {len(content)} of {HEADER_BYTES} bytes")
    try:
        start = io.BytesIO(content[:HEADER_BYTES])
        # Unchecked, because nibabel prints what its checks find; it is checked below.
        found = Spm2AnalyzeHeader.from_fileobj(start, check=False)  # type: ignore[no-untyped-call]
        if int(found["sizeof_hdr"]) != HEADER_BYTES:
            raise BadFile(f"{path}: no Analyze header (ENVI?); convert it to NIfTI")
        shape = tuple(int(n) for n in found.get_data_shape())
        dtype = np.dtype(found.get_data_dtype())
        slope, intercept = found.get_slope_inter()
        affine = np.asarray(found.get_best_affine(), np.float64)
        offset = int(found.get_data_offset())
    except (HeaderDataError, ImageFileError, ValueError, KeyError, OverflowError) as error:
        if isinstance(error, BadFile):
            raise
        raise CorruptFile(f"{path}: Analyze header: {said(error)}; convert it to NIfTI") from None
    extents = check_extents(shape[:3], f"{path}: dim")
    if len(shape) > 4:
        raise BadFile(f"{path}: dim: {len(shape)}-D where a 3-D volume is meant; split it")
    volumes = shape[3] if len(shape) == 4 else 1
    require_numbers(dtype, f"{path}: datatype")
    if offset < 0:
        raise CorruptFile(f"{path}: vox_offset: {offset} is below 0")
    check_promise((*extents, volumes), dtype.itemsize, size, packed, f"{path}: dim")
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise CorruptFile(f"{path}: scale: {slope}, {intercept} are not finite")
    warnings = ["Analyze holds no orientation: left and right may be swapped"]
    warnings += check_affine(affine, f"{path}: pixdim, origin")
    nowhere = Placement(1, (), (0.0,) * 8, 0, (0, ()), (0, ()))
    header = Header(extents, nowhere, dtype, slope, intercept, offset, affine, volumes)
    header.warnings = warnings
    return header
