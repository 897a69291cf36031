"""Differentiable augmentation inside the critic, of real and generated volumes alike.

The critic sees T(x) for a random T on both sides, so it cannot memorise a small training set, and
the generator is not taught to augment: equal distributions of T(real) and T(generated) imply
equal ones of real and generated as long as the mixture of transforms can be undone. A flip with
probability 1/2 cannot (an image and its mirror become one), hence 1/4.

Source: Zhao et al. 2020, "Differentiable augmentation"; Karras et al. 2020, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastgan.measures.augmentation_limits import BRIGHTNESS, CONTRAST, LARGEST_SHIFT
from fastgan.nn.choices import check_choice
from fastgan.random import placed

__all__ = ["AUGMENTATIONS", "Augment"]

AUGMENTATIONS = ("flip", "shift", "intensity")
FLIP_PROBABILITY = 0.25
# The value of air or of no signal, which shifts bring in.
BACKGROUND = -1.0
# Matrix times volume along D, H, W of an NDHWC view.
MOVEMENTS = ("bij,bjhwc->bihwc", "bij,bdjwc->bdiwc", "bij,bdhjc->bdhic")


class Augment:
    """Random transforms of a batch, each volume by its own draw.

    flip: each axis mirrored with probability 1/4. shift: whole voxels, up to 1/8 of each axis,
    filled with -1. intensity: contrast 0.8 to 1.2 about 0 and brightness -0.2 to 0.2.

    Args:
        names: any of flip, shift, intensity; none of them is the identity.

    Raises:
        ConfigError: an unknown name.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        for name in names:
            check_choice("augment", name, AUGMENTATIONS)
        self.names = tuple(names)

    def __call__(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Transform volumes.

        Args:
            x: [B, C, D, H, W] in [-1, 1].
            rng: source of the parameters; the same numbers are drawn for any device and dtype.

        Returns:
            [B, C, D, H, W], channels_last_3d (x itself without any augmentation).

        Derivatives: all orders (linear in x).
        Cost: flip and shift 2 B C S (D + H + W) flops: products with 0/1 matrices, because the
            backward of an indexed read is a scatter.
        """
        if not self.names:
            return x
        y = x.permute(0, 2, 3, 4, 1)
        if "flip" in self.names or "shift" in self.names:
            y = y - BACKGROUND
            # Moving voxels must not round them.
            with torch.autocast(x.device.type, enabled=False):
                for axis, equation in enumerate(MOVEMENTS):
                    y = torch.einsum(equation, self._movement(x, axis, rng), y)
            y = y + BACKGROUND
        if "intensity" in self.names:
            size = (x.shape[0], 1, 1, 1, 1)
            y = y * _tensor(rng.uniform(*CONTRAST, size), x)
            y = y + _tensor(rng.uniform(*BRIGHTNESS, size), x)
        return y.contiguous().permute(0, 4, 1, 2, 3)

    def _movement(self, x: Tensor, axis: int, rng: np.random.Generator) -> Tensor:
        """[B, n, n] matrices of 0 and 1: output voxel i of an axis reads input voxel j."""
        batch, length = x.shape[0], x.shape[2 + axis]
        source = np.broadcast_to(np.arange(length), (batch, length))
        if "flip" in self.names:
            mirrored = rng.random((batch, 1)) < FLIP_PROBABILITY
            source = np.where(mirrored, length - 1 - source, source)
        if "shift" in self.names:
            most = int(length * LARGEST_SHIFT)
            source = source + rng.integers(-most, most + 1, (batch, 1))
        return _tensor(source[:, :, None] == np.arange(length), x)


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return placed(torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype), like.device)
