"""These numbers stand for volumes: block means, intensities, and statistics with a name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastgan.arrays import Floats, Texts
from fastgan.errors import AuditError
from fastgan.measures.shape import body, shape_statistics

__all__ = [
    "FINE_MEANS",
    "INTENSITIES",
    "block_means",
    "block_values",
    "named_statistics",
    "size_of",
    "voxel_descriptors",
]

_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

# Columns of `voxel_descriptors`.
FINE_MEANS, COARSE_MEANS, COARSE_SPREADS = slice(0, 64), slice(64, 72), slice(72, 80)
QUANTILES = slice(80, 87)
INTENSITIES = np.r_[FINE_MEANS, COARSE_MEANS, QUANTILES]
"""Columns that follow an offset of all voxels; the others do not see it."""


def block_means(values: Floats, blocks: int, *, rounded: bool = False) -> Floats:
    """[N, blocks^3] means of [N, D, H, W] over a grid of nearly equal blocks.

    Where an axis does not divide, a block starts at the voxel before its even share, or, if
    `rounded`, at the nearest.
    """
    out = values
    for axis in (1, 2, 3):
        size = values.shape[axis]
        count = min(blocks, size)
        starts = np.arange(count) * size // count
        if rounded:
            starts = (np.arange(count) * size / count).round().astype(np.int64)
        widths = np.diff(np.append(starts, size)).astype(np.float32)
        shape = [1] * 4
        shape[axis] = count
        out = np.add.reduceat(out, starts, axis=axis) / widths.reshape(shape)
    means: Floats = out.reshape(len(values), -1)
    return means


def block_values(values: Floats, blocks: int) -> Floats:
    """[N, 2 blocks^3] means, then standard deviations within each block."""
    mean = block_means(values, blocks)
    square = block_means(np.square(values), blocks)
    return np.concatenate([mean, np.sqrt(np.maximum(square - mean**2, 0.0))], axis=1)


def voxel_descriptors(values: Floats) -> Floats:
    """[N, F] a pyramid of block means, intensity quantiles and fine detail, for classifiers.

    Raises:
        AuditError: an axis of fewer than 4 voxels.

    Cost: a few passes over the voxels.
    """
    if min(values.shape[1:]) < 4:
        raise AuditError(f"needs volumes of at least 4 voxels a side, got {values.shape[1:]}")
    flat = values.reshape(len(values), -1)
    quantiles = np.quantile(flat, _QUANTILES, axis=1).T
    parts = [block_means(values, 4), block_values(values, 2), quantiles, flat.std(axis=1)[:, None]]
    detail = [np.abs(np.diff(values, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2, 3)]
    curved = [np.abs(np.diff(values, 2, axis=axis)).mean(axis=(1, 2, 3)) for axis in (1, 2, 3)]
    return np.concatenate([*parts, np.stack(detail + curved, axis=1)], axis=1).astype(np.float64)


def size_of(values: Floats, *, hard: bool = False) -> Floats:
    """[N] share of the grid that the body of a mask in [-1, 1] fills, or, if `hard`, values > 0."""
    filled = values > 0.0 if hard else body((values + 1.0) / 2.0)
    share: Floats = filled.mean(axis=(1, 2, 3), dtype=np.float64)
    return share


def named_statistics(
    values: Floats,
    spacing: tuple[float, float, float],
    modality: str,
    columns: Mapping[str, Texts] | None = None,
) -> dict[str, Floats]:
    """Statistics with a meaning: name -> [N].

    Args:
        values: [N, D, H, W] in [-1, 1].
        spacing: mm along D, H, W.
        modality: masks have sizes and forms, pictures have intensities, noise and sharpness.
        columns: manifest columns; those that hold numbers throughout are statistics, too.
    """
    out: dict[str, Floats] = {}
    flat = values.reshape(len(values), -1)
    if modality == "mask":
        shape = shape_statistics((values + 1.0) / 2.0, spacing)
        out["volume, log mm3"] = np.log(np.maximum(shape.volume, 1.0))
        for name, column in (
            ("surface / volume^(2/3)", shape.surface_ratio),
            ("elongation", shape.elongation),
        ):
            known = np.isfinite(column)
            filling = np.median(column[known]) if known.any() else 0.0
            out[name] = np.where(known, column, filling)
        soft = (flat > -0.9) & (flat < 0.9)
        out["share of soft voxels"] = soft.mean(axis=1)
    else:
        low, middle, high = np.quantile(flat, [0.01, 0.5, 0.99], axis=1)
        mean, deviation = flat.mean(axis=1, dtype=np.float64), flat.std(axis=1, dtype=np.float64)
        third = ((flat - mean[:, None]) ** 3).mean(axis=1)
        out |= {"mean": mean, "standard deviation": deviation}
        out["skewness"] = third / np.maximum(deviation, 1e-6) ** 3
        out |= {"1 % quantile": low, "median": middle, "99 % quantile": high}
        out["share of background (< -0.95)"] = (flat < -0.95).mean(axis=1)
        # Median over voxels of the second difference: edges are few, noise is everywhere.
        second = np.abs(np.diff(values, 2, axis=3)).reshape(len(values), -1)
        out["noise (second difference)"] = np.median(second, axis=1)
        first = np.square(np.diff(values, axis=3)).mean(axis=(1, 2, 3), dtype=np.float64)
        out["sharpness (gradient / deviation)"] = np.sqrt(first) / np.maximum(deviation, 1e-6)
    grid = block_means(values, 4).reshape(len(values), 4, 4, 4)
    inner = grid[:, 1:3, 1:3, 1:3].mean(axis=(1, 2, 3), dtype=np.float64)
    outer = (grid.sum(axis=(1, 2, 3), dtype=np.float64) - 8 * inner) / 56
    out |= {"middle": inner, "border": outer}
    for axis, name in ((1, "D"), (2, "H"), (3, "W")):
        halves = np.split(grid, 2, axis=axis)
        first, second = (half.mean(axis=(1, 2, 3), dtype=np.float64) for half in halves)
        out[f"second half less first along {name}"] = second - first
    for name, texts in (columns or {}).items():
        numbers = _numbers(texts)
        if numbers is not None:
            out[f"manifest: {name}"] = numbers
    return out


def _numbers(column: Texts) -> Floats | None:
    try:
        numbers = np.array([float(text) for text in column])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() and np.ptp(numbers) > 0 else None
