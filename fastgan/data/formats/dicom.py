"""DICOM: a series of slices in a folder, or one file of many frames, by pydicom."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgan.data.formats.dicom_header import Slice, is_dicom, read_slice
from fastgan.data.formats.dicom_series import Grid, grid_of, series_of
from fastgan.data.formats.extras import quiet
from fastgan.data.formats.shapes import check_extents
from fastgan.data.formats.stored import Head, Stored, check_promise
from fastgan.data.stream import opened
from fastgan.errors import BadFile, CorruptFile, FastganError

__all__ = [
    "files_of_series",
    "head_of_file",
    "head_of_series",
    "is_dicom",
    "read_file",
    "read_series",
]

# What unpacks a compressed transfer syntax, by a word of its name.
DECODERS = (
    ("JPEG-LS", "pylibjpeg pylibjpeg-libjpeg"),
    ("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
    ("JPEG", "pylibjpeg pylibjpeg-libjpeg"),
)


def read_series(folder: Path, uid: str | None = None) -> Stored:
    """The volume of one series below a folder, slices sorted along their normal.

    Raises:
        BadFile, CorruptFile, UnsafeFile, ResourceLimit: see `fastgan.data.read_volume`.
    """
    slices, where = _series(folder, uid)
    grid = grid_of([s.frames[0] for s in slices], where)
    ordered = [slices[i] for i in grid.order]
    shape = check_extents((ordered[0].columns, ordered[0].rows, len(ordered)), f"{where}: size")
    values = np.empty(shape, np.float32)
    digest = hashlib.sha256()
    dtype, scales = "", set()
    for k, one in enumerate(ordered):
        pixels = _pixels(one, digest)
        frame = one.frames[0]
        values[:, :, k] = _scaled(pixels, frame.slope, frame.intercept, str(one.path)).T
        dtype = pixels.dtype.name
        scales.add((frame.slope, frame.intercept))
    return _stored(values, grid, ordered[0], dtype, scales, digest.hexdigest())


def read_file(path: Path, volume: int | None = None) -> Stored:
    """The volume of one file of many frames (an enhanced CT or MR image).

    Raises:
        BadFile: one slice of a series, or as `fastgan.data.read_volume`.
    """
    one, grid = _enhanced(path)
    if volume:
        raise BadFile(f"{path}: volume {volume} is not there; it holds one")
    digest = hashlib.sha256()
    pixels = _pixels(one, digest)
    values = np.empty((one.columns, one.rows, len(one.frames)), np.float32)
    for k, i in enumerate(grid.order):
        frame = one.frames[i]
        where = f"{path}: frame {i}"
        values[:, :, k] = _scaled(pixels[i], frame.slope, frame.intercept, where).T
    scales = {(frame.slope, frame.intercept) for frame in one.frames}
    return _stored(values, grid, one, pixels.dtype.name, scales, digest.hexdigest())


def head_of_series(folder: Path, uid: str | None = None) -> Head:
    """The grid of a series, from headers alone."""
    slices, where = _series(folder, uid)
    grid = grid_of([s.frames[0] for s in slices], where)
    return Head((slices[0].columns, slices[0].rows, len(slices)), grid.affine)


def head_of_file(path: Path) -> Head:
    """The grid of a file of many frames."""
    one, grid = _enhanced(path)
    return Head((one.columns, one.rows, len(one.frames)), grid.affine)


def files_of_series(folder: Path, uid: str | None = None) -> list[Path]:
    """The files of one series, sorted by path."""
    return [one.path for one in series_of(folder, uid)]


def _series(folder: Path, uid: str | None) -> tuple[list[Slice], str]:
    slices = series_of(folder, uid)
    where = str(folder) if uid is None else f"{folder}#{uid}"
    where += f" ({slices[0].about})" if slices[0].about else ""
    _require_images(slices, where)
    sizes = {(s.rows, s.columns) for s in slices}
    if len(sizes) > 1:
        raise BadFile(f"{where}: slices of {len(sizes)} sizes in one series; split it")
    return slices, where


def _enhanced(path: Path) -> tuple[Slice, Grid]:
    one = read_slice(path)
    _require_images([one], str(path))
    if len(one.frames) < 2:
        raise BadFile(f"{path}: one slice of a DICOM series; name its folder instead")
    check_extents((one.columns, one.rows, len(one.frames)), f"{path}: size")
    return one, grid_of(one.frames, str(path))


def _require_images(slices: Sequence[Slice], where: str) -> None:
    for one in slices:
        if one.kind:
            raise BadFile(f"{where}: {one.kind}: no image; leave it out")
        if one.fault:
            raise BadFile(f"{where}: {one.fault}")


def _pixels(one: Slice, digest: hashlib._Hash) -> NDArray[np.integer]:
    """Stored numbers of a file, [rows, columns] or [frames, rows, columns]."""
    from pydicom import dcmread

    with opened(one.path) as reader:
        content = reader.read(reader.file_size)
    digest.update(content)
    shape = (one.rows, one.columns, max(len(one.frames), 1))
    where = f"{one.path}: pixels"
    check_promise(shape, one.bytes_each, len(content), bool(one.compressed), where)
    try:
        with quiet("pydicom"):
            pixels = dcmread(io.BytesIO(content)).pixel_array
    except FastganError:
        raise
    except Exception as error:  # so do its decoders
        if one.compressed and _lacks_decoder(error):
            need = next((n for word, n in DECODERS if word in one.compressed), "")
            how = f"pip install {need}" if need else "unpack it by dcmdjpeg or gdcmconv --raw"
            raise BadFile(f"{one.path}: {one.compressed}: nothing here unpacks it; {how}") from None
        kind = type(error).__name__
        raise CorruptFile(f"{where}: damaged ({kind}); export it again") from None
    wanted = shape[:2] if len(one.frames) < 2 else (shape[2], *shape[:2])
    if pixels.shape != wanted or pixels.dtype.kind not in "iu":
        raise CorruptFile(f"{where}: {pixels.dtype} {pixels.shape}, the header says {wanted}")
    return pixels


def _lacks_decoder(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError | NotImplementedError) and any(
        word in text for word in ("missing", "unable to decompress", "plugin", "unavailable")
    )


def _scaled(
    pixels: NDArray[np.integer], slope: float, intercept: float, where: str
) -> NDArray[np.float64]:
    values = pixels.astype(np.float64) * slope + intercept
    if not np.isfinite(values).all():
        raise CorruptFile(f"{where}: RescaleSlope, RescaleIntercept: {slope}, {intercept}")
    return values


def _stored(
    values: NDArray[np.float32],
    grid: Grid,
    one: Slice,
    dtype: str,
    scales: set[tuple[float, float]],
    digest: str,
) -> Stored:
    one_scale = len(scales) == 1
    slope, intercept = scales.pop() if one_scale else (1.0, 0.0)
    return Stored(
        values,
        grid.affine,
        values.shape,
        dtype if one_scale else values.dtype.name,  # no stored number stands for one value then
        slope,
        intercept,
        digest,
        one.modality,
        grid.warnings,
    )
