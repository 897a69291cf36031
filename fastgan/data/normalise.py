"""Intensities to [-1, 1] by modality, with a record that leads back to the file's units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from fastgan.data.level import SHARE, Values, levels, unlevelled
from fastgan.data.volume import Volume
from fastgan.errors import BadFile, ConfigError

__all__ = [
    "CT_WINDOW",
    "Normalisation",
    "Values",
    "denormalise",
    "intensity_range",
    "normalise",
    "on_grid",
    "record_like",
]

CT_WINDOW = (-1000.0, 1000.0)  # HU: air to bone
MR_PERCENTILES = (0.5, 99.5)
CT_PADDING = -1500.0  # HU; scanners fill the corners with -2000 or -3024, nothing real is so low


class Normalisation(TypedDict):
    """How values of a file became [-1, 1], as JSON values; of a data set, its volumes' medians."""

    modality: str
    """ct | mr | map | mask."""
    low: float
    high: float
    """The file's units that became -1 and 1."""
    method: str
    clipped: NotRequired[float]
    """Share of voxels outside the range."""
    padding: NotRequired[float]
    """Share of voxels below -1500 HU."""
    share: NotRequired[float]
    """Of masks: what partial voxels have of [-1, 1]."""
    warnings: NotRequired[list[str]]
    """Oddities of one file."""
    per_volume: NotRequired[bool]
    """Of a data set: whether volumes have ranges of their own."""


def intensity_range(
    volume: Volume, modality: str, window: tuple[float, float] | None = None
) -> Normalisation:
    """The record of how one volume is brought to [-1, 1].

    ct takes -1000 to 1000 HU; mr the 0.5 and 99.5 percentiles of the foreground (what lies a tenth
    of the way from the minimum to the mean, or above); map and mask take 0 to 1. A window replaces
    any of them. Masks are then told as levels (`fastgan.data.level`).

    Args:
        volume: what `read_volume` gave.
        modality: "ct", "mr", "map" or "mask".
        window: (low, high) in the file's units.

    Returns:
        The record, with clipped, padding and, of masks, share.

    Raises:
        BadFile: a constant MR volume; a CT stored unsigned without offset; a mask outside 0 to 1.
        ConfigError: an unknown modality, or a window whose ends are not in order.
    """
    array, path = volume.array, volume.source.path
    padding = 0.0
    if window is not None:
        low, high = (float(end) for end in window)
        method = "window"
        if not low < high:
            raise ConfigError(f"data.window: low must be below high, got {window}")
    elif modality == "ct":
        low, high = CT_WINDOW
        method = "window"
        padding = float((array < CT_PADDING).mean())
        unscaled = volume.source.slope == 1.0 and volume.source.intercept == 0.0
        if unscaled and volume.source.dtype.startswith("uint"):
            raise BadFile(
                f"{path}: CT stored unsigned without an offset, so not in HU; set data.window"
            )
    elif modality == "mr":
        low, high = _percentiles(array, path)
        method = "foreground percentiles 0.5 to 99.5"
    elif modality in ("map", "mask"):
        low, high = 0.0, 1.0
        method = "unit"
        least, most = float(array.min()), float(array.max())
        if least < -1e-3 or most > 1.0 + 1e-3:
            raise BadFile(
                f"{path}: {modality} from {least:g} to {most:g}, 0 to 1 is meant; set data.window"
            )
    else:
        raise ConfigError(f"modality: {modality!r} is not ct, mr, map or mask")
    clipped = float(((array < low) | (array > high)).mean())
    record: Normalisation = {
        "modality": modality,
        "low": low,
        "high": high,
        "method": method,
        "clipped": round(clipped, 6),
        "padding": round(padding, 6),
    }
    if modality == "mask":
        record["share"] = SHARE
    return record


def record_like(volume: Volume, record: Normalisation) -> Normalisation:
    """The record of a new volume, by the rule that a data set's `record` was made by.

    A window stays the window; MR takes the volume's own percentiles.

    Raises:
        BadFile: a constant volume, or as `intensity_range`.
    """
    least, most = float(volume.array.min()), float(volume.array.max())
    if least == most:
        raise BadFile(f"{volume.source.path}: constant volume, every voxel is {least:g}")
    window = None
    if record["method"] in ("window", "full"):
        window = (float(record["low"]), float(record["high"]))
        # Without a window of its own a CT is checked for being in HU at all.
        if record["modality"] == "ct" and window == CT_WINDOW:
            window = None
    return intensity_range(volume, record["modality"], window)


def normalise(array: np.ndarray, record: Normalisation) -> np.ndarray:
    """float32 in [-1, 1] of any shape: linear from low to high of the record, then clipped.

    To be shown to a network by `on_grid` once it has its final grid.
    """
    low, high = record["low"], record["high"]
    scaled = (np.asarray(array, np.float32) - np.float32(low)) * np.float32(2.0 / (high - low))
    clipped: np.ndarray = np.clip(scaled - np.float32(1.0), -1.0, 1.0)
    return clipped


def on_grid(array: np.ndarray, record: Normalisation, spacing: Sequence[float]) -> np.ndarray:
    """What a network sees of a normalised volume [..., D, H, W]: a mask's levels, others as is.

    Distances to a border are those of the grid, so this follows resampling and padding.
    """
    return levels(array, spacing) if "share" in record else array


def denormalise(array: Values, record: Normalisation) -> Values:
    """The file's units (HU for CT) of values, or a mask's levels, in [-1, 1]; clipping stays."""
    low, high = float(record["low"]), float(record["high"])
    if "share" in record:
        array = unlevelled(array, record["share"])
    return (array + 1.0) * (0.5 * (high - low)) + low


def _percentiles(array: np.ndarray, path: str) -> tuple[float, float]:
    least, most = float(array.min()), float(array.max())
    if least == most:
        raise BadFile(f"{path}: constant volume, every voxel is {least:g}")
    # Without a cut-off the air around the patient would set the range.
    threshold = least + 0.1 * float(array[array > least].mean() - least)
    foreground = array[array > threshold]
    low, high = (float(p) for p in np.percentile(foreground, MR_PERCENTILES))
    if not low < high:
        low, high = least, most
    return low, high
