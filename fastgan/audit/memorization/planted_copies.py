"""Copies of training volumes are planted here: a test of memorization has to find them."""

from __future__ import annotations

import numpy as np
import torch

from fastgan.arrays import Floats
from fastgan.audit.moves import MIRRORS, mirrored, moved
from fastgan.data.augment import KINDS, augment
from fastgan.measures.augmentation_limits import LARGEST_SHIFT

__all__ = ["TRANSFORMS", "noisy", "transformed"]

TRANSFORMS = (*KINDS, "shift")
"""What may be done to a copy: the augmentations that a run may use."""


def noisy(volumes: Floats, length: float, rng: np.random.Generator) -> Floats:
    """Volumes [N, D, H, W] plus white noise of about a Euclidean length each; may leave [-1, 1]."""
    sd = length / np.sqrt(np.prod(volumes.shape[1:]))
    out: Floats = volumes + np.float32(sd) * rng.standard_normal(volumes.shape, dtype=np.float32)
    return out


def transformed(
    kind: str, volumes: Floats, rng: np.random.Generator, spacing: tuple[float, float, float]
) -> Floats:
    """Volumes [N, D, H, W], each by its own random draw of one of `TRANSFORMS`.

    A flip is any mirror image but the volume itself; a shift moves by whole voxels, up to 1/8 of
    each axis, along at least one; the others are drawn as training draws them.
    """
    out = volumes
    if kind == "flip":
        drawn = rng.integers(1, len(MIRRORS), len(volumes))
        out = np.stack([mirrored(x, int(m)) for x, m in zip(volumes, drawn, strict=True)])
    elif kind == "shift":
        most = np.maximum(1, (np.array(volumes.shape[1:]) * LARGEST_SHIFT).astype(np.int64))
        steps = rng.integers(-most, most + 1, (len(volumes), 3))
        steps[~steps.any(axis=1), 0] = 1
        out = np.stack([moved(x, step) for x, step in zip(volumes, steps, strict=True)])
    else:
        batch = torch.from_numpy(np.ascontiguousarray(volumes, dtype=np.float32))[:, None]
        out = augment(batch, [kind], rng, spacing=spacing)[0][:, 0].numpy()
    return out
