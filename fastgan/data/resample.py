"""Volumes to another spacing and shape, with the affine that keeps every structure in place."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastgan.data.geometry import spacing_of
from fastgan.errors import ConfigError, ResourceLimit

__all__ = ["crop_or_pad", "resample", "resampled_shape"]

SAME = 1e-3  # relative difference of spacing below which a volume is left untouched


def resample(
    array: np.ndarray,
    affine: np.ndarray,
    spacing: tuple[float, float, float],
    shape: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a volume to a spacing: trilinear, with a triangle filter where it gets coarser.

    The centre of the field of view stays where it is. A linear ramp in world space comes out as
    the same ramp, away from the border; the border repeats the edge voxel.

    Args:
        array: [D, H, W] float32.
        affine: [4, 4], voxel index to mm.
        spacing: wanted millimetres per voxel along D, H, W.
        shape: wanted extents, as many as cover the field of view by default. A volume resampled
            with the spacing and shape another came from is on that volume's grid again.

    Returns:
        (array [D', H', W'] float32 with D' = round(D * old / new), affine [4, 4]).

    Raises:
        ConfigError: a spacing that is not positive.
        ResourceLimit: more than 2^30 voxels would come out.
    """
    old = spacing_of(affine)
    counts = list(resampled_shape(array.shape, old, spacing) if shape is None else shape)
    ratios = [new / was for new, was in zip(spacing, old, strict=True)]
    if shape is None:
        ratios = _settled(ratios)
    change = np.eye(4)
    out = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    for axis, (count, ratio) in enumerate(zip(counts, ratios, strict=True)):
        length = array.shape[axis]
        change[axis, axis] = ratio
        change[axis, 3] = 0.5 * (length - 1) - ratio * 0.5 * (count - 1)
        if count != length or ratio != 1.0:
            out = _filter(out, axis, *_taps(length, count, ratio))
    return out.numpy(), np.asarray(affine, np.float64) @ change


def resampled_shape(
    shape: tuple[int, ...], old: tuple[float, float, float], spacing: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Extents `resample` gives a volume of `shape` at the spacing `old`; raises what it raises."""
    if not all(0.0 < s < float("inf") for s in spacing):
        raise ConfigError(f"data.spacing: must be positive millimetres, got {spacing}")
    ratios = _settled([new / was for new, was in zip(spacing, old, strict=True)])
    d, h, w = (max(1, round(n / r)) for n, r in zip(shape, ratios, strict=True))
    if float(d) * h * w > 1 << 30:
        raise ResourceLimit(f"data.spacing: {spacing} mm makes {(d, h, w)} voxels of {shape}")
    return d, h, w


def crop_or_pad(
    array: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], fill: float
) -> tuple[np.ndarray, np.ndarray]:
    """The centre of a volume, cropped or padded to `shape`; exact where voxels are kept.

    Args:
        array: [D, H, W] of any dtype.
        affine: [4, 4], voxel index to mm.
        shape: wanted extents.
        fill: value of the padding, the volume's low value.

    Returns:
        (array of `shape`, affine [4, 4] of the same world positions).
    """
    starts = [(n - m) // 2 for n, m in zip(array.shape, shape, strict=True)]
    out = np.full(shape, fill, array.dtype)
    source = tuple(
        slice(max(s, 0), max(s, 0) + min(n, m))
        for s, n, m in zip(starts, array.shape, shape, strict=True)
    )
    target = tuple(
        slice(max(-s, 0), max(-s, 0) + min(n, m))
        for s, n, m in zip(starts, array.shape, shape, strict=True)
    )
    out[target] = array[source]
    change = np.eye(4)
    change[:3, 3] = starts
    return out, np.asarray(affine, np.float64) @ change


def _settled(ratios: list[float]) -> list[float]:
    """Ratios of new to old spacing, 1 where the difference is not worth a filter."""
    return [1.0 if abs(r - 1.0) < SAME else r for r in ratios]


def _filter(volume: Tensor, axis: int, taps: Tensor, weights: Tensor) -> Tensor:
    shape = [1, 1, 1]
    shape[axis] = -1
    out: Tensor | None = None
    # A few taps a voxel: far less work than a matrix product over the whole axis.
    for tap, weight in zip(taps.T, weights.T, strict=True):
        part = volume.index_select(axis, tap).mul_(weight.reshape(shape))
        out = part if out is None else out.add_(part)
    assert out is not None
    return out


def _taps(length: int, count: int, ratio: float) -> tuple[Tensor, Tensor]:
    """Input voxels [count, T] int64 and weights [count, T] float32 of each output voxel."""
    centres = ratio * (np.arange(count) - 0.5 * (count - 1)) + 0.5 * (length - 1)
    width = max(1.0, ratio)
    reach = int(np.ceil(width))
    taps = np.floor(centres)[:, None] + np.arange(-reach, reach + 2)
    weight = np.maximum(0.0, 1.0 - np.abs(taps - centres[:, None]) / width)
    weight /= weight.sum(1, keepdims=True)
    # A sampled triangle of fractional width has its mean slightly off; tilting it puts the mean
    # on the centre again, so that ramps stay ramps.
    mean = (weight * taps).sum(1, keepdims=True)
    variance = (weight * (taps - mean) ** 2).sum(1, keepdims=True)
    tilt = (centres[:, None] - mean) / np.maximum(variance, 1e-9)
    weight *= 1.0 + tilt * (taps - mean)
    inside = np.clip(taps, 0, length - 1).astype(np.int64)
    return torch.from_numpy(inside), torch.from_numpy(weight.astype(np.float32))
