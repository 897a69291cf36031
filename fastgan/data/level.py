"""Masks as levels: the inside and the outside of a body told by the distance to its border.

A mask is flat nearly everywhere: a network that draws one must hit exactly 0 on the whole
background, where every faint error counts and no voxel says in which direction a border should
move. Its levels change everywhere near the border and are free of the first: partial voxels keep
their share, linearly, within +-`SHARE`; full and empty ones go on to +-1 with their distance to the
nearest voxel that is not. Any level beyond +-`SHARE` reads as full or empty.

Source: level sets: Osher and Sethian 1988; as the output of a network: Park et al. 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

__all__ = ["REACH", "SHARE", "Values", "levels", "unlevelled"]

Values = TypeVar("Values", np.ndarray, Tensor)

SHARE = 0.2
"""Half of [-1, 1] that partial voxels take: little, so that small changes of a level move a border,
and no less than half the slope of the distances."""
REACH = 3.0
"""Mean voxel sizes from the border to where levels end at +-1."""


def levels(values: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Levels of masks; `unlevelled` leads back, exactly up to rounding.

    Args:
        values: [..., D, H, W] float32 in [-1, 1], -1 outside and 1 inside.
        spacing: mm per voxel of D, H, W.

    Returns:
        [..., D, H, W] float32 in [-1, 1].

    Cost: 2 (2 REACH + 1) 3 operations a voxel where voxels are cubes; six copies of `values`.
    """
    values = np.asarray(values, np.float32)
    outside = _distance(values > -1.0, spacing) / np.float32(REACH)
    inside = _distance(values < 1.0, spacing) / np.float32(REACH)
    far = np.float32(1.0 - SHARE) * (inside - outside)
    return np.float32(SHARE) * values + far


def unlevelled(levels: Values, share: float = SHARE) -> Values:
    """Masks in [-1, 1] of levels, any shape, array or tensor; `share` as they were made with."""
    return (levels / share).clip(-1.0, 1.0)


def _distance(there: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """[..., D, H, W]: distance to the nearest voxel that is `there`, at most REACH mean voxels.

    Exact up to REACH: the square of a Euclidean distance is minimised one axis at a time.
    """
    mean = float(np.mean(spacing))
    squared = np.where(there, np.float32(0.0), np.float32(REACH**2))
    for axis, size in zip((-3, -2, -1), spacing, strict=True):
        step = float(size) / mean
        lines = np.moveaxis(squared, axis, 0)
        nearer = lines.copy()
        for k in range(1, min(math.ceil(REACH / step), len(lines))):
            apart = np.float32((k * step) ** 2)
            np.minimum(nearer[k:], lines[:-k] + apart, out=nearer[k:])
            np.minimum(nearer[:-k], lines[k:] + apart, out=nearer[:-k])
        squared = np.moveaxis(nearer, 0, axis)
    return np.sqrt(squared)
