"""What every reader gives, and the checks that hold for all of them."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgan.data.formats.nifti_header import Placement
from fastgan.data.formats.shapes import check_affine, check_extents, choose_volume
from fastgan.data.stream import open_regular
from fastgan.errors import BadFile, CorruptFile, ResourceLimit, UnsafeFile

__all__ = [
    "LPS_TO_RAS",
    "Affine",
    "Head",
    "Stored",
    "beside",
    "check_affine",
    "check_extents",
    "check_promise",
    "choose_volume",
    "float32_of",
    "partner",
    "require_numbers",
    "unpacked",
]

Affine = NDArray[np.float64]
Numbers = NDArray[np.generic]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Head:
    """What a file says before its voxels are read.

    Attributes:
        shape: extents of one volume, as stored.
        affine: [4, 4] float64 of the stored grid, mm, to the patient's right, front and head.
        volumes: how many the file holds; above 1 one has to be chosen.
    """

    shape: tuple[int, int, int]
    affine: Affine
    volumes: int = 1


@dataclass(frozen=True)
class Stored:
    """One volume as its file holds it.

    Attributes:
        values: [D, H, W] float32 along the file's own axes.
        affine: [4, 4] float64 of them, mm, to the patient's right, front and head.
        shape: stored extents, trailing ones of 1 included.
        dtype: name of the stored number type.
        slope, intercept: value = slope * stored + intercept; 1, 0 also where slices differ.
        digest: sha256 of the content, packing undone, hex.
        says: what the file calls its values: "ct", "mr", "map" or "labels"; None where it does not.
        warnings: oddities that do not stop the reading.
        extensions: (code, payload) of NIfTI header extensions.
        placement: the grid as a NIfTI header puts it; None for other files.
    """

    values: NDArray[np.float32]
    affine: Affine
    shape: tuple[int, ...]
    dtype: str
    slope: float
    intercept: float
    digest: str
    says: str | None = None
    warnings: tuple[str, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()
    placement: Placement | None = None


def require_numbers(dtype: np.dtype[np.generic], where: str) -> None:
    """BadFile unless a volume of this type holds real numbers."""
    if dtype.kind not in "biuf":
        raise BadFile(f"{where}: {dtype} where real numbers are meant; save one part as float32")


def check_promise(shape: Sequence[int], itemsize: int, size: int, packed: bool, where: str) -> int:
    """Bytes that an array promises, if a file of `size` bytes can hold them.

    Raises:
        CorruptFile: more than the file has, or than deflate can make of it (1032 to 1).
        ResourceLimit: packed more than 200 to 1 beyond 256 MiB.
    """
    promised = math.prod(shape) * itemsize
    if promised > size * (1100 if packed else 1):
        raise CorruptFile(f"{where}: {promised} bytes promised, the file has {size}; copy it again")
    if packed and promised > (256 << 20) and promised > 200 * size:
        raise ResourceLimit(f"{where}: unpacks {promised // size} to 1, over 200 to 1")
    return promised


def float32_of(stored: Numbers, slope: float, intercept: float, where: str) -> NDArray[np.float32]:
    """[D, H, W] float32 of stored numbers, scaled in float64, every one of them finite.

    Raises:
        BadFile: NaN or infinite voxels.
        CorruptFile: scaled beyond the range of float32.
    """
    out = np.empty(stored.shape, np.float32)
    # Slice by slice, so that the float64 intermediate stays small.
    for k in range(stored.shape[2]):
        values = stored[:, :, k].astype(np.float64)
        if slope != 1.0 or intercept != 0.0:
            with np.errstate(over="ignore"):
                values = values * slope + intercept
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            raise BadFile(
                f"{where}: slice {k}: {bad} voxels are NaN or infinite; set them to the background"
            )
        if np.abs(values).max(initial=0.0) > FLOAT32_MAX:
            raise CorruptFile(f"{where}: scl_slope: voxels beyond the range of float32")
        out[:, :, k] = values
    return out


def partner(path: Path, name: str, field: str) -> Path:
    """The data file that a header names; it must lie in the header's own folder.

    Raises:
        UnsafeFile: a path that leads elsewhere.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UnsafeFile(
            f"{path}: {field}: {name!r} leads out of its folder; put the data beside the header"
        )
    return path.with_name(name)


def beside(path: Path, name: str, field: str) -> bytes:
    """Content of the `partner` that a header names.

    Raises:
        UnsafeFile: a path that leads elsewhere, or no regular file.
        BadFile: it is missing.
    """
    with open_regular(partner(path, name, field)) as file:
        return file.read()


def behind(content: bytes, skip: int, promised: int, path: Path) -> bytes:
    """The `promised` bytes behind `skip` others, to the very end; -1 skips whatever is before them.

    Raises:
        CorruptFile: fewer or more are there.
    """
    start = len(content) - promised if skip == -1 else skip
    if start < 0 or len(content) - start != promised:
        raise CorruptFile(
            f"{path}: data: {len(content)} bytes, the header promises {promised}; copy it again"
        )
    return content[start:]


def unpacked(content: bytes, promised: int, encoding: str, where: str) -> bytes:
    """Exactly `promised` bytes of a zlib, gzip or bzip2 stream, its check sum compared.

    Args:
        content: the packed bytes, nothing before or after them.
        promised: bytes expected, already bounded by `check_promise`.
        encoding: "gzip" (also zlib) | "bzip2".
        where: file and field, for messages.

    Raises:
        CorruptFile: cut, altered, or of another length.
    """
    try:
        # One byte more than promised is asked for: that the stream has none is its end.
        if encoding == "bzip2":
            bunzip = bz2.BZ2Decompressor()
            data, ended = bunzip.decompress(content, promised + 1), bunzip.eof
        else:
            inflate = zlib.decompressobj(wbits=47)
            data, ended = inflate.decompress(content, promised + 1), inflate.eof
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise CorruptFile(f"{where}: {error}; copy it again") from None
    if len(data) != promised or not ended:
        raise CorruptFile(f"{where}: cut, or not the {promised} bytes promised; copy it again")
    return data
