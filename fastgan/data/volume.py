"""One volume in from any format in canonical order, and the exact way back out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgan.data.formats import dicom
from fastgan.data.formats.nifti_header import Placement
from fastgan.data.formats.stored import Head, Stored
from fastgan.data.formats.table import SUFFIXES, format_of, parted
from fastgan.data.geometry import Orientation, orientation_of, spacing_of, to_canonical, to_source
from fastgan.data.stream import open_regular
from fastgan.errors import BadFile, ConfigError
from fastgan.guarded import typed

__all__ = [
    "SUFFIXES",
    "Source",
    "Volume",
    "content_digest",
    "parted",
    "read_head",
    "read_spacing",
    "read_volume",
    "restore",
]


@dataclass(frozen=True)
class Source:
    """Facts of the file a volume came from, enough for the way back.

    Attributes:
        path: as it was named.
        affine: [4, 4] float64 of the stored grid, mm.
        orientation: of the stored axes.
        shape: stored extents, trailing ones of 1 included.
        dtype: name of the stored number type.
        slope, intercept: value = slope * stored + intercept.
        digest: sha256 of the content, packing undone, hex: equal for one image under two names.
        warnings: oddities of the header.
        extensions: (code, payload) of NIfTI header extensions.
        placement: the grid as a NIfTI header puts it; None for other files.
        says: what the file calls its values: "ct", "mr", "map" or "labels"; None where it does not.
    """

    path: str
    affine: NDArray[np.float64]
    orientation: Orientation
    shape: tuple[int, ...]
    dtype: str
    slope: float
    intercept: float
    digest: str
    warnings: tuple[str, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()
    placement: Placement | None = None
    says: str | None = None


@dataclass(frozen=True)
class Volume:
    """A volume in right-anterior-superior order.

    Attributes:
        array: [D, H, W] float32; axes run to the patient's right, front and head.
        affine: [4, 4] float64, voxel index to mm.
        source: the file it came from.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    source: Source

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along D, H, W."""
        return spacing_of(self.affine)


@typed("the volume")
def read_volume(path: Path | str) -> Volume:
    """Read one volume; every byte is checked as far as its format allows.

    The header is checked before anything is allocated, gzip is read to its end with CRC and size,
    and every voxel is finite. Integers above 2^24 and float64 lose digits in float32. Where qform
    and sform disagree by more than half a voxel: an error if both claim the same space, otherwise
    the sform is used and a warning recorded. Without either, the axes are taken as
    right-anterior-superior, with a warning. .npy and .npz hold no orientation: they are taken as
    right-anterior-superior, at 1 mm unless the .npz has `spacing` [3] or `affine` [4, 4].

    Args:
        path: a file of `fastgan.data.formats.table`, a folder of one DICOM series, volume n of a
            4-D file as "file#n", counted from 0, or a DICOM series of several in a folder as
            "folder#SeriesInstanceUID".

    Raises:
        BadFile: not a file this reads, or not one 3-D volume of real finite numbers.
        CorruptFile: cut, altered or contradicting itself.
        UnsafeFile: symbolic link, FIFO, device, or a pickle.
        ResourceLimit: larger than 2^30 voxels, or a decompression bomb.
    """
    stored = _read(path)
    array, affine, orientation = to_canonical(stored.values, stored.affine)
    source = Source(
        str(path),
        stored.affine,
        orientation,
        stored.shape,
        stored.dtype,
        stored.slope,
        stored.intercept,
        stored.digest,
        stored.warnings,
        stored.extensions,
        stored.placement,
        stored.says,
    )
    return Volume(array, affine, source)


@typed("the volume")
def read_head(path: Path | str) -> Head:
    """Shape, affine and number of volumes, from the header alone where the format has one.

    Raises:
        as `read_volume`, for what the header can show.
    """
    file, part = parted(path)
    if file.is_dir():
        return dicom.head_of_series(file, part)
    return format_of(file).head(file)


def read_spacing(path: Path | str) -> tuple[float, float, float]:
    """Millimetres per voxel in canonical order, from the header alone where the format has one.

    Raises:
        as `read_volume`, for what the header can show.
    """
    affine = read_head(path).affine
    sizes = spacing_of(affine)
    a, b, c = orientation_of(affine).axes
    return sizes[a], sizes[b], sizes[c]


@typed("the volume")
def content_digest(path: Path | str) -> str:
    """sha256 of the bytes of a volume's files as they lie on the disk, and of its part; hex.

    Raises:
        BadFile, UnsafeFile: a file that cannot be read.
    """
    file, part = parted(path)
    digest = hashlib.sha256()
    for one in dicom.files_of_series(file, part) if file.is_dir() else _files(file):
        with open_regular(one) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    if part is not None and not file.is_dir():
        digest.update(f"#{part}".encode())
    return digest.hexdigest()


def restore(volume: Volume, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """`array` on the grid and in the axis order `volume` was stored in, bit for bit.

    Args:
        volume: what `read_volume` gave.
        array: [D, H, W] of any dtype on the volume's canonical grid.

    Returns:
        The array in the stored shape; `volume.source.affine` places it.

    Raises:
        ConfigError: the array has another shape than the volume.
    """
    if array.shape != volume.array.shape:
        raise ConfigError(f"restore: array must be {volume.array.shape}, got {array.shape}")
    return to_source(array, volume.source.orientation).reshape(volume.source.shape)


def _read(path: Path | str) -> Stored:
    file, part = parted(path)
    if file.is_dir() and not file.name.lower().endswith(SUFFIXES):
        return dicom.read_series(file, part)
    if part is not None and not part.isdecimal():
        raise BadFile(f"{path}: volume {part!r}: a number from 0 is meant")
    return format_of(file).read(file, None if part is None else int(part))


def _files(path: Path) -> tuple[Path, ...]:
    """The files a volume's bytes lie in."""
    return format_of(path).files(path)
