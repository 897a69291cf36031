"""NIfTI-1 and NIfTI-2, in one file or as a pair of header and image; every byte is checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fastgan.data.formats.nifti_header import Header, parse_header, walk_extensions
from fastgan.data.formats.shapes import choose_volume
from fastgan.data.formats.stored import Head, Stored, float32_of
from fastgan.data.stream import Reader, opened
from fastgan.errors import CorruptFile, ResourceLimit

__all__ = ["head", "read", "read_pair"]

LONGEST_HEADER = 540
LONGEST_EXTENSION = 64 << 20  # bytes between header and data; real ones hold a few kB of text


def head(path: Path) -> Head:
    """Grid and number of volumes, from the header alone."""
    with opened(path) as reader:
        start = reader.read(LONGEST_HEADER)
        header = parse_header(start, str(path), reader.file_size, reader.compressed, several=True)
    return Head(header.shape, header.affine, header.volumes)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume; gzip is read to its end, with CRC and size.

    Args:
        path: ends in .nii or .nii.gz.
        volume: which of a 4-D file, from 0.

    Raises:
        BadFile, CorruptFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    several = volume is not None
    with opened(path) as reader:
        start = reader.read(LONGEST_HEADER)
        header = parse_header(
            start, str(path), reader.file_size, reader.compressed, several=several
        )
        if header.offset > LONGEST_EXTENSION:
            raise ResourceLimit(f"{path}: vox_offset: {header.offset} bytes before the data")
        start += reader.read(header.offset - len(start))
        early, start = start[header.offset :], start[: header.offset]
        if len(start) < header.offset:
            raise CorruptFile(f"{path}: vox_offset: {header.offset} is past the end of the file")
        extended = 544 if header.placement.version == 2 else 352
        extensions = tuple(walk_extensions(start, extended - 4, str(path)))
        data = _data(reader, early, header, volume, path)
    return stored_of(start, data, header, volume, path, extensions)


def read_pair(content: bytes, header: Header, image: Path, volume: int | None) -> Stored:
    """One volume of an .img, whose .hdr has the given content and was parsed as a pair."""
    with opened(image) as reader:
        reader.skip(header.offset)
        data = _data(reader, b"", header, volume, image)
    return stored_of(content, data, header, volume, image)


def _data(reader: Reader, early: bytes, header: Header, volume: int | None, path: Path) -> bytes:
    """Bytes of the chosen volume; the content has to end where the header says."""
    size = header.data_bytes
    chosen = choose_volume(header.volumes, volume, f"{path}: dim")
    if header.volumes == 1:
        data = early[:size] + reader.read(size - len(early))
        if len(early) > size:
            raise CorruptFile(f"{path}: data: bytes follow where the header says it ends")
    else:
        # Behind a NIfTI-1 header 188 bytes are here already; volumes are longer or read whole.
        whole = early if len(early) > size else b""
        if whole:
            whole += reader.read(header.volumes * size - len(whole))
            data = whole[chosen * size : (chosen + 1) * size]
        else:
            before = chosen * size - len(early) if chosen else 0
            reader.skip(before)
            data = reader.read(size) if chosen else early + reader.read(size - len(early))
            reader.skip((header.volumes - chosen - 1) * size)
    if len(data) < size:
        raise CorruptFile(
            f"{path}: data: {len(data)} bytes, the header promises {size}: cut; copy it again"
        )
    reader.finish()
    return data


def stored_of(
    start: bytes,
    data: bytes,
    header: Header,
    volume: int | None,
    path: Path,
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> Stored:
    """The volume of a checked header and exactly its bytes."""
    numbers = np.frombuffer(data, header.dtype).reshape(header.shape, order="F")
    digest = hashlib.sha256(start)
    digest.update(data)
    if header.volumes > 1:
        digest.update(b"#%d" % (volume or 0))
    return Stored(
        float32_of(numbers, header.slope, header.intercept, str(path)),
        header.affine,
        header.shape + header.placement.trailing,
        header.dtype.name,
        header.slope,
        header.intercept,
        digest.hexdigest(),
        header.says,
        tuple(header.warnings),
        extensions,
        # Of a volume out of several, the header's own words would claim them all.
        header.placement if header.volumes == 1 else None,
    )
