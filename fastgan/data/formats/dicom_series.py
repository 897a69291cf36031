"""Slices sorted into series, and a series into a grid: position, spacing, gaps, gantry tilt."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastgan.data.formats.dicom_header import Frame, Slice, is_dicom, read_slice
from fastgan.data.formats.extras import library
from fastgan.data.formats.shapes import check_affine
from fastgan.data.formats.stored import LPS_TO_RAS, Affine
from fastgan.errors import BadFile, FastganError

__all__ = ["Grid", "grid_of", "group", "series_of", "slices_below"]

NEAR = 0.01  # mm or 1 %: what scanners round positions to
TILT = 0.5  # voxels that a slice may slide in its plane from the first to the last


@dataclass(frozen=True)
class Grid:
    """Frames in the order of the stack, and where they lie.

    Attributes:
        order: position of each in what `grid_of` was given.
        affine: [4, 4] of (column, row, slice), mm, to the patient's right, front and head.
        warnings: oddities that do not stop the reading.
    """

    order: tuple[int, ...]
    affine: Affine
    warnings: tuple[str, ...] = ()


def slices_below(folder: Path) -> tuple[list[Slice], dict[Path, FastganError]]:
    """(DICOM files below a folder, sorted by path; damaged ones and what is wrong with them).

    Hidden files and DICOMDIR are not looked at.

    Raises:
        BadFile: pydicom is missing.
    """
    found, damaged = [], {}
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at) / name
            if not name.startswith(".") and name.upper() != "DICOMDIR" and is_dicom(path):
                library("pydicom", "dicom", path)
                try:
                    found.append(read_slice(path))
                except FastganError as error:
                    damaged[path] = error
    return found, damaged


def group(slices: Iterable[Slice]) -> dict[str, list[Slice]]:
    """Images of one frame by SeriesInstanceUID, in the order in which they are met."""
    series: dict[str, list[Slice]] = {}
    for one in slices:
        if not one.kind and len(one.frames) < 2:
            series.setdefault(one.series, []).append(one)
    return series


def series_of(folder: Path, uid: str | None) -> list[Slice]:
    """The slices of one series below a folder.

    Args:
        folder: where they lie.
        uid: SeriesInstanceUID; None where there is one alone.

    Raises:
        BadFile: no such series, or several and none named.
        BadFile and its kinds: of a damaged file beside its slices, which may be one of them.
    """
    slices, damaged = slices_below(folder)
    series = group(slices)
    if damaged and not series:
        raise next(iter(damaged.values()))
    chosen = _choose(series, folder, uid)
    homes = {one.path.parent for one in chosen}
    for path, error in damaged.items():
        if path.parent in homes:
            raise error
    return chosen


def _choose(series: dict[str, list[Slice]], folder: Path, uid: str | None) -> list[Slice]:
    if not series:
        raise BadFile(
            f"{folder}: no series of DICOM slices in it; a file of many frames is named itself"
        )
    if uid is None:
        if len(series) > 1:
            names = "; ".join(f"{folder}#{u} ({s[0].about})" for u, s in list(series.items())[:4])
            raise BadFile(f"{folder}: {len(series)} DICOM series; name one of them: {names}")
        return next(iter(series.values()))
    if uid not in series:
        raise BadFile(f"{folder}: no DICOM series {uid} in it; there are {', '.join(series)}")
    return series[uid]


def grid_of(frames: Sequence[Frame], where: str) -> Grid:
    """Sort frames along their normal and check that they make one regular stack.

    Args:
        frames: two or more.
        where: file or folder and series, for messages.

    Raises:
        BadFile: no geometry; slices of different directions or pixel sizes; several at one
            position; one missing; uneven spacing; a tilted gantry.
    """
    if len(frames) < 2:
        raise BadFile(f"{where}: one slice where a 3-D volume is meant; leave it out")
    if any(f.position is None or f.orientation is None or f.spacing is None for f in frames):
        raise BadFile(f"{where}: slices without position, direction or pixel size; leave it out")
    directions = np.array([f.orientation for f in frames], np.float64)
    pixels = np.array([f.spacing for f in frames], np.float64)
    positions = np.array([f.position for f in frames], np.float64)
    if not all(np.isfinite(a).all() for a in (directions, pixels, positions)):
        raise BadFile(f"{where}: position, direction or pixel size not finite; export it again")
    if np.ptp(directions, axis=0).max() > 1e-3:
        raise BadFile(f"{where}: slices in several directions (a localizer?); leave it out")
    if np.ptp(pixels, axis=0).max() > 1e-3 * pixels.min():
        raise BadFile(f"{where}: slices of several pixel sizes; split the series")
    along_row, along_column = directions[0, :3], directions[0, 3:]
    normal = np.cross(along_row, along_column)
    if abs(float(np.linalg.norm(normal)) - 1.0) > 1e-2:
        raise BadFile(f"{where}: ImageOrientationPatient: no right angle; export it again")
    places = positions @ normal
    order = np.argsort(places, kind="stable")
    step = _step(places[order], where)
    first, last = positions[order[0]], positions[order[-1]]
    through = (last - first) / (len(frames) - 1)
    _check_tilt(positions[order], normal, pixels.min(), where)
    affine = np.eye(4)
    affine[:3, 0] = along_row * pixels[0, 1]
    affine[:3, 1] = along_column * pixels[0, 0]
    affine[:3, 2] = through
    affine[:3, 3] = first
    affine = LPS_TO_RAS @ affine
    assert step > 0.0
    warnings = check_affine(affine, f"{where}: geometry")
    return Grid(tuple(int(i) for i in order), affine, warnings)


def _step(places: NDArray[np.float64], where: str) -> float:
    """Mm between slices, sorted along their normal; they have to be equally far apart."""
    gaps = np.diff(places)
    twice = int((gaps < NEAR).sum())
    if twice:
        raise BadFile(
            f"{where}: {twice} slices lie where another does: several echoes, times or copies in "
            "one series; split it, for instance by dcm2niix"
        )
    step = float(np.median(gaps))
    wrong = np.nonzero(np.abs(gaps - step) > max(NEAR, 0.01 * step))[0]
    if not len(wrong):
        return step
    at = int(wrong[0])
    share = gaps[at] / step
    if round(share) >= 2 and abs(share - round(share)) < 0.05:
        raise BadFile(
            f"{where}: slices missing: {round(share) - 1} after slice {at + 1} of {len(places)} "
            f"({gaps[at]:.4g} mm apart, others {step:.4g}); export the series again"
        )
    raise BadFile(
        f"{where}: slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, where one spacing is "
        "meant; resample it, for instance by dcm2niix"
    )


def _check_tilt(
    positions: NDArray[np.float64], normal: NDArray[np.float64], pixel: float, where: str
) -> None:
    way = positions[-1] - positions[0]
    along = float(way @ normal)
    aside = float(np.linalg.norm(way - along * normal))
    if aside > TILT * pixel:
        raise BadFile(
            f"{where}: gantry tilted by {np.degrees(np.arctan2(aside, along)):.2g} degrees, so "
            "slices are shifted against each other; straighten it by dcm2niix"
        )
    straight = np.outer(np.arange(len(positions)) / (len(positions) - 1), way) + positions[0]
    bent = float(np.linalg.norm(positions - straight, axis=1).max())
    if bent > max(TILT * pixel, 2 * NEAR):
        raise BadFile(f"{where}: slices are not in one line; split the series")
