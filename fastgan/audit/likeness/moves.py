"""Volumes are moved and mirrored by whole voxels here, so that no value is interpolated."""

from __future__ import annotations

import itertools

import numpy as np

from fastgan.arrays import Floats, Integers

__all__ = ["MIRRORS", "mirrored", "moved"]

MIRRORS = tuple(itertools.product((False, True), repeat=3))
"""The eight ways to mirror D, H, W, none first."""


def moved(volume: Floats, move: tuple[int, ...] | Integers) -> Floats:
    """A volume [D, H, W] moved by whole voxels; -1 comes in."""
    if not np.any(move):
        return volume
    out = np.full_like(volume, -1.0)
    source, place = [], []
    for n, step in zip(volume.shape, map(int, move), strict=True):
        step = max(-n, min(n, step))
        source.append(slice(max(0, -step), n - max(0, step)))
        place.append(slice(max(0, step), n - max(0, -step)))
    out[tuple(place)] = volume[tuple(source)]
    return out


def mirrored(volume: Floats, mirror: int) -> Floats:
    """A volume [D, H, W] mirrored as `MIRRORS[mirror]` says."""
    out: Floats = np.flip(volume, tuple(axis for axis in range(3) if MIRRORS[mirror][axis]))
    return out
