"""NRRD, .nrrd and .nhdr: pynrrd reads the header, the bytes are checked here."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.data.formats.extras import library, said
from fastgan.data.formats.shapes import check_affine, check_extents, choose_volume
from fastgan.data.formats.stored import (
    LPS_TO_RAS,
    Affine,
    Head,
    Stored,
    behind,
    beside,
    check_promise,
    float32_of,
    partner,
    unpacked,
)
from fastgan.data.stream import opened
from fastgan.errors import BadFile, CorruptFile

__all__ = ["files", "head", "read"]

Fields = Mapping[str, Any]  # pynrrd's header: text, numbers and arrays by field
LONGEST_HEADER = 1 << 20
# What turns a space of the header into right, anterior, superior.
SPACES = {
    "right-anterior-superior": np.eye(4),
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "left-posterior-superior": LPS_TO_RAS,
}
SPACES |= {"ras": SPACES["right-anterior-superior"], "las": SPACES["left-anterior-superior"]}
SPACES |= {"lps": LPS_TO_RAS}
# The standard's names of a type, one line a type.
NAMES = """
i1: signed char, int8, int8_t
u1: uchar, unsigned char, uint8, uint8_t
i2: short, short int, signed short, signed short int, int16, int16_t
u2: ushort, unsigned short, unsigned short int, uint16, uint16_t
i4: int, signed int, int32, int32_t
u4: uint, unsigned int, uint32, uint32_t
i8: longlong, long long, long long int, signed long long, signed long long int, int64, int64_t
u8: ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t
f4: float
f8: double
"""
TYPES = {
    name.strip(): line[:2] for line in NAMES.strip().split("\n") for name in line[3:].split(",")
}
UNITS = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3}
SEVERAL_FILES = re.compile(rb"^data ?file:[ \t]*(LIST|[^\n]*%\d*d)", re.MULTILINE)
SEVERAL = ("list", "time", "vector", "none", "???")
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
ENCODINGS |= {"ascii": "text", "text": "text", "txt": "text"}


def head(path: Path) -> Head:
    """Grid and number of volumes, from the header alone."""
    with opened(path) as reader:
        fields, _ = _fields(reader.read(LONGEST_HEADER), path)
    shape, axis, volumes = _shape(fields, path)
    return Head(shape, _affine(fields, axis, path)[0], volumes)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume, attached to its header or in one file beside it.

    Raises:
        BadFile, CorruptFile, UnsafeFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    with opened(path) as reader:
        content = reader.read(reader.file_size)
    fields, end = _fields(content, path)
    shape, axis, volumes = _shape(fields, path)
    affine, warnings = _affine(fields, axis, path)
    dtype = _dtype(fields, path)
    sizes = [int(n) for n in fields["sizes"]]
    detached = fields.get("data file", fields.get("datafile"))
    packed = content[end:]
    if detached is not None:
        packed = beside(path, str(detached), "data file")
    data = _data(packed, sizes, dtype, fields, path)
    chosen = choose_volume(volumes, volume, f"{path}: sizes")
    numbers = np.frombuffer(data, dtype).reshape(sizes, order="F")
    if axis is not None:
        numbers = np.take(numbers, chosen, axis=axis)
    digest = hashlib.sha256(content[:end] + data + (b"#%d" % chosen if volumes > 1 else b""))
    return Stored(
        float32_of(numbers, 1.0, 0.0, str(path)),
        affine,
        shape,
        dtype.name,
        1.0,
        0.0,
        digest.hexdigest(),
        warnings=warnings + check_affine(affine, f"{path}: space directions"),
    )


def files(path: Path) -> tuple[Path, ...]:
    """The header, and the file its numbers lie in where that is another."""
    with opened(path) as reader:
        fields, _ = _fields(reader.read(LONGEST_HEADER), path)
    name = fields.get("data file", fields.get("datafile"))
    return (path,) if name is None else (path, partner(path, str(name), "data file"))


def _fields(content: bytes, path: Path) -> tuple[Fields, int]:
    """The header's fields, and where it ends."""
    nrrd = library("nrrd", "nrrd", path)
    start = content[:LONGEST_HEADER]
    if SEVERAL_FILES.search(start):
        raise BadFile(f"{path}: data file: a list of files; save it as one .nrrd")
    stream = io.BytesIO(start)
    try:
        fields = nrrd.read_header(stream)
        found = "dimension" in fields and "sizes" in fields and "type" in fields
    except Exception as error:  # pynrrd raises whatever its parsers meet
        raise CorruptFile(f"{path}: NRRD header: {said(error)}; copy it again") from None
    if not found:
        raise CorruptFile(f"{path}: NRRD header: type, dimension or sizes are missing")
    return fields, stream.tell()


def _shape(fields: Fields, path: Path) -> tuple[tuple[int, int, int], int | None, int]:
    """(extents, the axis that counts volumes, how many there are)."""
    sizes = [int(n) for n in fields["sizes"]]
    if int(fields["dimension"]) != len(sizes):
        raise CorruptFile(f"{path}: sizes: {sizes} for dimension {fields['dimension']}")
    if len(sizes) != 4:
        return check_extents(sizes, f"{path}: sizes"), None, 1
    kinds = [str(kind).lower() for kind in fields.get("kinds", ["???"] * 4)]
    lost = _without_direction(fields)
    axis = next(
        (i for i in range(4) if i in lost or (not lost and kinds[i : i + 1] == ["list"])), None
    )
    if axis is None or axis >= len(kinds) or kinds[axis] not in SEVERAL:
        kind = "colour or vector" if axis is None else kinds[axis]
        raise BadFile(
            f"{path}: kinds: 4-D with {kind} in axis {axis}, where a 3-D volume is meant; "
            "save one component"
        )
    extents = check_extents(sizes[:axis] + sizes[axis + 1 :], f"{path}: sizes")
    return extents, axis, sizes[axis]


def _without_direction(fields: Fields) -> list[int]:
    directions = fields.get("space directions")
    if directions is None:
        return []
    return [
        i
        for i, row in enumerate(directions)
        if row is None or not np.isfinite(np.asarray(row, float)).all()
    ]


def _affine(fields: Fields, axis: int | None, path: Path) -> tuple[Affine, tuple[str, ...]]:
    directions = fields.get("space directions")
    warnings: tuple[str, ...] = ()
    affine = np.eye(4)
    space = str(fields.get("space", "")).lower()
    try:
        if directions is None:
            spacings = np.asarray(fields.get("spacings", np.ones(3 + (axis is not None))), float)
            kept = np.delete(spacings, axis) if axis is not None else spacings
            affine[:3, :3] = np.diag(kept)
        else:
            rows = [np.asarray(row, float) for i, row in enumerate(directions) if i != axis]
            affine[:3, :3] = np.stack(rows).T
        affine[:3, 3] = np.asarray(fields.get("space origin", np.zeros(3)), float)
    except (ValueError, TypeError) as error:
        raise CorruptFile(f"{path}: space directions, space origin: {said(error)}") from None
    units = {str(unit).lower() for unit in fields.get("space units", ())}
    if len(units) > 1 or not units <= set(UNITS):
        raise BadFile(f"{path}: space units: {sorted(units)} are not read; save it in mm")
    affine[:3] *= UNITS[units.pop()] if units else 1.0
    if space in SPACES and directions is not None:
        affine = SPACES[space] @ affine
    else:
        warnings = ("no orientation in the file: right-anterior-superior assumed",)
    check_affine(affine, f"{path}: space directions")
    return affine, warnings


def _dtype(fields: Fields, path: Path) -> np.dtype[np.generic]:
    kind = TYPES.get(str(fields["type"]).lower())
    if kind is None:
        raise BadFile(f"{path}: type: {fields['type']} is not read; save it as float")
    dtype: np.dtype[np.generic] = np.dtype(kind)
    if dtype.itemsize == 1:
        return dtype
    return dtype.newbyteorder(">" if str(fields.get("endian", "little")) == "big" else "<")


def _data(
    packed: bytes, sizes: list[int], dtype: np.dtype[np.generic], fields: Fields, path: Path
) -> bytes:
    where = f"{path}: sizes"
    encoding = ENCODINGS.get(str(fields.get("encoding", "")).lower())
    if encoding is None:
        raise BadFile(f"{path}: encoding: {fields.get('encoding')} is not read; save it as gzip")
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if int(fields.get("line skip", fields.get("lineskip", 0))) or (skip and encoding != "raw"):
        raise BadFile(f"{path}: line skip, byte skip: not read here; save it as one .nrrd")
    # bzip2 has no bound of its own; what is far beyond deflate's is no image.
    promised = check_promise(sizes, dtype.itemsize, len(packed), encoding != "raw", where)
    if encoding == "text":
        return _text(packed, dtype, promised, path)
    if encoding != "raw":
        return unpacked(packed, promised, encoding, f"{path}: encoding")
    return behind(packed, skip, promised, path)


def _text(packed: bytes, dtype: np.dtype[np.generic], promised: int, path: Path) -> bytes:
    try:
        values = np.array(packed.split(), dtype)
    except (ValueError, OverflowError) as error:
        raise CorruptFile(f"{path}: data: {said(error)}") from None
    if values.nbytes != promised:
        raise CorruptFile(f"{path}: data: {values.nbytes} bytes, the header promises {promised}")
    return values.tobytes()
