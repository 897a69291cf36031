"""NIfTI-1 and NIfTI-2 headers in: checked field by field before anything is allocated."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastgan.data.formats.shapes import SPACING_RANGE, affine_fault, check_extents, choose_volume
from fastgan.data.geometry import from_quaternion, spacing_of
from fastgan.errors import BadFile, CorruptFile, ResourceLimit

__all__ = ["HEADER_1", "Header", "Placement", "parse_header", "walk_extensions"]

DATATYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
REFUSED = {
    1: "1-bit",
    32: "complex",
    128: "RGB",
    1536: "float128",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # code of xyzt_units -> millimetres
HEADER_1 = struct.Struct("i10s18sihcB8h3fhhhh8ffffhBBffffii80s24shh6f4f4f4f16s4s")
HEADER_2 = struct.Struct("i8shh8q3d8dq6dqq80s24sii6d4d4d4diii16sB15s")
LABELS = 1002  # intent: names of regions
STATISTICS = range(2, 25)  # intents: correlation, t, F, z, ..., p
SURFACES = range(3000, 3100)  # intents of CIFTI


Coded = tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Placement:
    """A header's own words on where its grid lies, to be written again bit for bit.

    Attributes:
        version: of NIfTI, 1 or 2.
        trailing: extents beyond the third, all 1.
        pixdim: the eight numbers, in the header's unit.
        units: code of xyzt_units.
        qform: (code, (b, c, d, x, y, z)).
        sform: (code, twelve numbers, row by row).
    """

    version: int
    trailing: tuple[int, ...]
    pixdim: tuple[float, ...]
    units: int
    qform: Coded
    sform: Coded


@dataclass
class Header:
    """What a checked header says.

    Attributes:
        shape: three extents, as stored.
        placement: the grid, as the header puts it.
        dtype: of the stored numbers, with their byte order.
        slope, intercept: value = slope * stored + intercept.
        offset: bytes before the data.
        affine: [4, 4] float64, mm, from the sform, the qform or the voxel sizes.
        volumes: how many the file holds, one after the other.
        says: "map" of a statistic, "labels" of regions, by the intent code; else None.
        warnings: oddities that do not stop the reading.
    """

    shape: tuple[int, int, int]
    placement: Placement
    dtype: np.dtype[np.generic]
    slope: float
    intercept: float
    offset: int
    affine: NDArray[np.float64]
    volumes: int = 1
    says: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def data_bytes(self) -> int:
        """Bytes of the stored numbers of one volume."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(
    content: bytes,
    name: str,
    file_size: int,
    compressed: bool,
    *,
    several: bool = False,
    pair: bool = False,
) -> Header:
    """Check the first 348 or 540 bytes of a file.

    Args:
        content: the bytes, more are ignored.
        name: the file, for messages.
        file_size: bytes on disk, which bound what the header may promise.
        compressed: whether those are gzip bytes.
        several: whether 4-D is fine; one volume of it is then read.
        pair: whether the data lie in an .img of their own, whose size `file_size` is.

    Raises:
        BadFile: a kind of file that is not read (detached, 4-D, complex, RGB, CIFTI).
        CorruptFile: fields that contradict each other or the file's size.
        ResourceLimit: more voxels than MAX_VOXELS.
    """
    order, version = _version(content, name)
    layout = HEADER_1 if version == 1 else HEADER_2
    if len(content) < layout.size:
        raise CorruptFile(f"{name}: header: cut short at {len(content)} of {layout.size} bytes")
    fields = struct.unpack_from(order + layout.format, content)
    if version == 1:
        dim, datatype, bitpix = fields[7:15], fields[19], fields[20]
        pixdim, raw_offset, slope, intercept = fields[22:30], *fields[30:33]
        units = fields[35]
        qform_code, sform_code, rotation = fields[44], fields[45], fields[46:52]
        rows, magic = fields[52:64], fields[65]
        intent, magics = fields[18], (b"n+1\0", b"ni1\0")
    else:
        magic, datatype, bitpix = fields[1:4]
        dim, pixdim = fields[4:12], fields[15:23]
        raw_offset, slope, intercept = fields[23:26]
        qform_code, sform_code, rotation = fields[34], fields[35], fields[36:42]
        rows, units = fields[42:54], fields[55]
        intent, magics = fields[56], (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")
    _check_magic(magic, magics, version, pair, name)
    if intent in SURFACES:
        raise BadFile(f"{name}: intent: CIFTI, values on a surface, not a 3-D volume; leave it out")
    shape, trailing, volumes = _extents(dim, several, name)
    dtype = _dtype(datatype, bitpix, order, name)
    offset = _offset(raw_offset, 0 if pair else layout.size + 4, name)
    promised = math.prod(shape) * volumes * dtype.itemsize + offset
    # Deflate cannot exceed 1032 to 1, so a larger promise is a lie and is refused unallocated.
    if promised > file_size * (1100 if compressed else 1):
        raise CorruptFile(
            f"{name}: dim: {promised} bytes promised, the file has {file_size}: cut or damaged; "
            "copy it again"
        )
    if compressed and promised > (256 << 20) and promised > 200 * file_size:
        raise ResourceLimit(f"{name}: gzip: unpacks {promised // file_size} to 1, over 200 to 1")
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise CorruptFile(f"{name}: scl_slope, scl_inter: {slope}, {intercept} are not finite")
    if slope == 0.0:
        slope, intercept = 1.0, 0.0
    if units & 7 not in UNITS:
        raise CorruptFile(f"{name}: xyzt_units: unknown code {units}")
    placement = Placement(
        version, trailing, pixdim, units, (qform_code, rotation), (sform_code, rows)
    )
    header = Header(shape, placement, dtype, slope, intercept, offset, np.eye(4), volumes)
    header.says = "labels" if intent == LABELS else "map" if intent in STATISTICS else None
    _place(header, name)
    return header


def walk_extensions(content: bytes, start: int, name: str) -> list[tuple[int, bytes]]:
    """(code, payload) of each header extension in `content[start:]`, which ends at the data."""
    if len(content) < start + 4 or content[start] == 0:
        return []
    order = "<" if struct.unpack_from("<i", content)[0] in (348, 540) else ">"
    found, position = [], start + 4
    while position + 8 <= len(content):
        size, code = struct.unpack_from(order + "ii", content, position)
        if size < 8 or position + size > len(content):
            raise CorruptFile(f"{name}: esize: {size} bytes at {position} do not fit the header")
        found.append((code, content[position + 8 : position + size]))
        position += size
    return found


def _version(content: bytes, name: str) -> tuple[str, int]:
    if len(content) < 4:
        raise CorruptFile(f"{name}: header: cut short at {len(content)} bytes")
    for order in "<>":
        size = struct.unpack_from(order + "i", content)[0]
        if size in (348, 540):
            return order, 1 if size == 348 else 2
    raise CorruptFile(f"{name}: sizeof_hdr: not 348 or 540 in either byte order; no NIfTI file")


def _check_magic(
    magic: bytes, magics: tuple[bytes, bytes], version: int, pair: bool, name: str
) -> None:
    joined, detached = magics
    if magic == (detached if pair else joined):
        return
    if pair and magic == joined:
        raise BadFile(f"{name}: magic: header and data in one file; name it .nii")
    if magic == detached:
        raise BadFile(f"{name}: magic: a detached header; name it .hdr, and its data .img")
    if version == 1 and not magic.strip(b"\0"):
        raise BadFile(f"{name}: magic: Analyze 7.5 named .nii; convert it to NIfTI")
    raise CorruptFile(f"{name}: magic: {magic!r} is not NIfTI's; copy the file again")


def _extents(
    dim: tuple[int, ...], several: bool, name: str
) -> tuple[tuple[int, int, int], tuple[int, ...], int]:
    """(shape, trailing extents of 1, number of volumes)."""
    count = dim[0]
    if not 1 <= count <= 7:
        raise CorruptFile(f"{name}: dim[0]: {count} is not 1 to 7")
    extents = dim[1 : count + 1]
    if any(e < 1 for e in extents):
        raise CorruptFile(f"{name}: dim: {extents} has an extent below 1")
    shape = check_extents(extents[:3], f"{name}: dim")
    if any(e != 1 for e in extents[4:]):
        raise BadFile(
            f"{name}: dim: {count}-D {extents}, a vector per voxel, where a 3-D volume is meant; "
            "save one component"
        )
    volumes = extents[3] if count > 3 else 1
    if volumes > 1 and not several:
        choose_volume(volumes, None, f"{name}: dim")
    return shape, (1,) * (count - 3) if volumes == 1 else (), volumes


def _dtype(code: int, bitpix: int, order: str, name: str) -> np.dtype[np.generic]:
    if code not in DATATYPES:
        kind = REFUSED.get(code, "unknown")
        raise BadFile(
            f"{name}: datatype: {code} ({kind}) where real numbers are meant; save it as float"
        )
    dtype = np.dtype(order + DATATYPES[code])
    if bitpix != 8 * dtype.itemsize:
        raise CorruptFile(f"{name}: bitpix: {bitpix} contradicts datatype {code} ({dtype.name})")
    return dtype


def _offset(raw: float, least: int, name: str) -> int:
    # 0 is written by some tools for "right after the header".
    if raw == 0:
        return least
    if not math.isfinite(raw) or raw != int(raw) or raw < least:
        raise CorruptFile(f"{name}: vox_offset: {raw} is not a whole number from {least} up")
    return int(raw)


def _place(header: Header, name: str) -> None:
    place = header.placement
    pixdim, qform, sform, unit = place.pixdim, place.qform, place.sform, UNITS[place.units & 7]
    sizes = np.array(pixdim[1:4], np.float64) * unit
    low, high = SPACING_RANGE
    if not (np.isfinite(sizes).all() and (sizes >= low).all() and (sizes <= high).all()):
        shown = [float(s) for s in sizes]
        raise CorruptFile(f"{name}: pixdim: {shown} mm is not within {low} to {high} mm")
    by_code = {}
    if qform[0] > 0:
        b, c, d, *origin = qform[1]
        if not b * b + c * c + d * d < 1.001:
            raise CorruptFile(f"{name}: quatern: {(b, c, d)} is longer than 1 or not finite")
        affine = from_quaternion((b, c, d), sizes, -1.0 if pixdim[0] < 0 else 1.0)
        affine[:3, 3] = np.array(origin, np.float64) * unit
        by_code["qform"] = affine
    if sform[0] > 0:
        rows = np.array(sform[1], np.float64).reshape(3, 4) * unit
        by_code["sform"] = np.vstack([rows, [0.0, 0.0, 0.0, 1.0]])
    for which, affine in by_code.items():
        _check_affine(affine, which, header, name)
    if not by_code:
        header.affine = np.diag([*sizes, 1.0])
        header.warnings.append("neither sform nor qform is set: axes taken as right, front, up")
        return
    header.affine = by_code.get("sform", by_code.get("qform", header.affine))
    if np.abs(np.array(spacing_of(header.affine)) / sizes - 1.0).max() > 0.01:
        header.warnings.append("pixdim and sform differ in voxel size: sform used")
    if len(by_code) == 2:
        corners = np.array(np.meshgrid(*[(0, e - 1) for e in header.shape])).reshape(3, -1)
        apart = np.abs(
            (by_code["sform"] - by_code["qform"])[:3, :3] @ corners
            + (by_code["sform"] - by_code["qform"])[:3, 3:]
        ).max()
        if apart > 0.5 * sizes.min():
            if qform[0] == sform[0]:
                raise CorruptFile(
                    f"{name}: qform, sform: {apart:.3g} mm apart although both name space "
                    f"{sform[0]}; set the right one"
                )
            header.warnings.append(f"qform and sform are {apart:.3g} mm apart: sform used")


def _check_affine(affine: NDArray[np.float64], which: str, header: Header, name: str) -> None:
    fault = affine_fault(affine)
    if fault is not None:
        raise CorruptFile(f"{name}: {which}: {fault}")
    if abs(float(np.linalg.det(affine[:3, :3]))) < 0.999 * np.prod(spacing_of(affine)):
        header.warnings.append(f"{which} is sheared: axes are not at right angles")
