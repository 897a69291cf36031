"""How large and how plain is what stands out most in the middle of a picture, bright or dark?

A lesion is small beside the organ it lies in, so shares of bright voxels follow the organ as much
as the lesion. The most conspicuous structure is sought over places and scales: differences of
Gaussians, of which each responds to balls of about its own size.

Source: Lindeberg 1998, "Feature detection with automatic scale selection".
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from fastgan.arrays import Floats
from fastgan.measures.descriptors import block_means

__all__ = ["structures"]

BLOCKS = 32  # along an axis at most: size is read to a part of a block
FINEST = 0.7 / 16
"""Deviation of the narrowest Gaussian, in edges of the volume; each further one is wider by
`STEP`. The widest difference responds to balls of a third of the edge across."""
STEP = math.sqrt(2.0)
SCALES = 5
CHUNK = 64  # volumes at once


def structures(values: Floats) -> dict[str, Floats]:
    """Name -> [N]: size and contrast of the most conspicuous structure of either sign.

    Args:
        values: [N, D, H, W].

    Cost: `SCALES` smoothings a volume, of 32^3 blocks at most.
    """
    parts = [_read(values[at : at + CHUNK]) for at in range(0, len(values), CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read(values: Floats) -> dict[str, Floats]:
    shape = tuple(min(BLOCKS, n) for n in values.shape[1:])
    volumes = block_means(np.asarray(values, np.float32), BLOCKS, rounded=True)
    volumes = volumes.reshape(-1, *shape)
    blurred = [_smooth(volumes, FINEST * min(shape) * STEP**k) for k in range(SCALES)]
    middle = (slice(None), *(slice(n // 4, n - n // 4) for n in shape))
    # [N, scales, places]
    found = np.stack(
        [(a - b)[middle].reshape(len(a), -1) for a, b in pairwise(blurred)],
        axis=1,
    )
    out: dict[str, Floats] = {}
    for name, response in (("bright", found), ("dark", -found)):
        place = response.max(axis=1).argmax(axis=1)
        there = np.maximum(response[np.arange(len(response)), :, place], 0.0).astype(np.float64)
        contrast = there.sum(axis=1)
        size = (there * np.arange(SCALES - 1)).sum(axis=1) / np.maximum(contrast, 1e-6)
        out[f"size of the {name} structure"] = size
        out[f"contrast of the {name} structure"] = contrast
    return out


def _smooth(volumes: Floats, deviation: float) -> Floats:
    """[N, D, H, W] under a Gaussian; beyond the faces the outermost voxels go on."""
    for axis in (1, 2, 3):
        weights = _gaussian(volumes.shape[axis], deviation)
        volumes = np.moveaxis(np.tensordot(volumes, weights, axes=(axis, 1)), -1, axis)
    return volumes


def _gaussian(size: int, deviation: float) -> Floats:
    """[size, size] of which row i smooths at i."""
    reach = math.ceil(3 * deviation)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * np.square(steps / deviation))
    out = np.zeros((size, size), np.float32)
    for step, weight in zip(steps, kernel / kernel.sum(), strict=True):
        np.add.at(out, (np.arange(size), np.clip(np.arange(size) + step, 0, size - 1)), weight)
    return out
