"""MetaImage, .mha and .mhd, as ITK writes it: a text header and the numbers behind it or beside.

Of the packages that read it one needs ITK and one bounds nothing, so this reader is our own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

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

LONGEST_HEADER = 1 << 16
DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
LOCAL = ("LOCAL", "Local", "local")  # the numbers follow the header
ORDER = ("ElementByteOrderMSB", "BinaryDataByteOrderMSB")
# Older names of one field, the first found counts.
ORIGIN = ("Offset", "Position", "Origin")
DIRECTIONS = ("TransformMatrix", "Orientation", "Rotation")
SPACING = ("ElementSpacing", "ElementSize")


def head(path: Path) -> Head:
    """Grid and number of volumes, from the header alone."""
    with opened(path) as reader:
        fields, _ = _fields(reader.read(LONGEST_HEADER), path)
    shape, volumes = _shape(fields, path)
    return Head(shape, _affine(fields, path), volumes)


def read(path: Path, volume: int | None = None) -> Stored:
    """One volume; the world axes of the header are left, posterior, superior.

    Raises:
        BadFile, CorruptFile, UnsafeFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    with opened(path) as reader:
        content = reader.read(reader.file_size)
    fields, end = _fields(content, path)
    shape, volumes = _shape(fields, path)
    affine = _affine(fields, path)
    dtype = _dtype(fields, path)
    name = fields["ElementDataFile"]
    if name.startswith("LIST") or "%" in name:
        raise BadFile(f"{path}: ElementDataFile: a list of files; save it as one .mha")
    packed = content[end:] if name in LOCAL else beside(path, name, "ElementDataFile")
    compressed = _flag(fields, "CompressedData", False)
    where = f"{path}: DimSize"
    promised = check_promise((*shape, volumes), dtype.itemsize, len(packed), compressed, where)
    data = _data(packed, promised, compressed, fields, path)
    chosen = choose_volume(volumes, volume, where)
    numbers = np.frombuffer(data, dtype).reshape((*shape, volumes), order="F")[..., chosen]
    digest = hashlib.sha256(content[:end] + data + (b"#%d" % chosen if volumes > 1 else b""))
    return Stored(
        float32_of(numbers, 1.0, 0.0, str(path)),
        affine,
        shape,
        dtype.name,
        1.0,
        0.0,
        digest.hexdigest(),
        warnings=check_affine(affine, f"{path}: TransformMatrix"),
    )


def files(path: Path) -> tuple[Path, ...]:
    """The header, and the file its numbers lie in where that is another."""
    with opened(path) as reader:
        fields, _ = _fields(reader.read(LONGEST_HEADER), path)
    name = fields["ElementDataFile"]
    return (path,) if name in LOCAL else (path, partner(path, name, "ElementDataFile"))


def _fields(content: bytes, path: Path) -> tuple[dict[str, str], int]:
    """The header's fields, and where it ends: ElementDataFile is the last by definition."""
    fields: dict[str, str] = {}
    position = 0
    while position < min(len(content), LONGEST_HEADER):
        end = content.find(b"\n", position)
        end = len(content) if end < 0 else end
        try:
            line = content[position:end].decode("utf-8")
        except UnicodeDecodeError:
            break
        position = end + 1
        if not line.strip():
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key in fields:
            break
        fields[key] = value
        if key == "ElementDataFile":
            return fields, position
    raise CorruptFile(f"{path}: header: no MetaImage, or cut before ElementDataFile")


def _shape(fields: Mapping[str, str], path: Path) -> tuple[tuple[int, int, int], int]:
    if fields.get("ObjectType", "Image") != "Image":
        raise BadFile(f"{path}: ObjectType: {fields['ObjectType']} is no image; leave it out")
    extents = [int(n) for n in _numbers(fields, ("DimSize",), path)]
    if fields.get("NDims", "") != str(len(extents)):
        raise CorruptFile(f"{path}: NDims: {fields.get('NDims')!r} for DimSize {extents}")
    if len(extents) == 4 and extents[3] >= 1:
        return check_extents(extents[:3], f"{path}: DimSize"), extents[3]
    return check_extents(extents, f"{path}: DimSize"), 1


def _affine(fields: Mapping[str, str], path: Path) -> Affine:
    count = int(fields["NDims"])
    identity = " ".join(map(str, np.eye(count).ravel()))
    directions = np.array(_numbers(fields, DIRECTIONS, path, identity))
    origin = np.array(_numbers(fields, ORIGIN, path, "0 " * count))
    spacing = np.array(_numbers(fields, SPACING, path, "1 " * count))
    if directions.size != count * count or {origin.size, spacing.size} != {count}:
        raise CorruptFile(f"{path}: TransformMatrix, Offset, ElementSpacing: not {count} an axis")
    affine = np.eye(4)
    # A row of the matrix is the direction of an axis of the image.
    affine[:3, :3] = directions.reshape(count, count)[:3, :3].T * spacing[:3]
    affine[:3, 3] = origin[:3]
    affine = LPS_TO_RAS @ affine
    check_affine(affine, f"{path}: TransformMatrix, ElementSpacing")
    return affine


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype[np.generic]:
    kind = fields.get("ElementType", "")
    if kind not in DTYPES:
        raise BadFile(f"{path}: ElementType: {kind!r} is not read; save it as MET_FLOAT")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise BadFile(
            f"{path}: ElementNumberOfChannels: {fields['ElementNumberOfChannels']}, a vector or "
            "colour per voxel, where one number is meant; save one channel"
        )
    if not _flag(fields, "BinaryData", True):
        raise BadFile(f"{path}: BinaryData: numbers as text are not read; save it binary")
    order = next((key for key in ORDER if key in fields), None)
    big = order is not None and _flag(fields, order, False)
    return np.dtype((">" if big else "<") + DTYPES[kind])


def _data(
    packed: bytes, promised: int, compressed: bool, fields: Mapping[str, str], path: Path
) -> bytes:
    if compressed:
        return unpacked(packed, promised, "gzip", f"{path}: CompressedData")
    skip = int(_numbers(fields, ("HeaderSize",), path, "0")[0])
    return behind(packed, skip, promised, path)


def _numbers(
    fields: Mapping[str, str], names: tuple[str, ...], path: Path, default: str | None = None
) -> list[float]:
    found = next((fields[name] for name in names if name in fields), default)
    try:
        values = [float(part) for part in (found or "").split()]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise CorruptFile(f"{path}: {names[0]}: {found!r} where numbers are meant")
    return values


def _flag(fields: Mapping[str, str], name: str, default: bool) -> bool:
    return fields.get(name, str(default)).lower() in ("true", "1", "yes")
