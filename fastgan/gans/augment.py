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
from fastgan.slabs import Slabs, gathered

__all__ = ["AUGMENTATIONS", "Augment", "Moves"]

Moves = tuple[Tensor, ...]
"""The parameters of a batch's transforms, as `Augment.draw` gives them."""

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
        self.slabs = Slabs()
        """The parts of the volumes that it is given; moves are those of whole volumes."""

    def draw(
        self, rng: np.random.Generator, shape: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Moves:
        """Draw the parameters for a batch.

        Args:
            rng: the same numbers are drawn for any dtype.
            shape: [B, C, D, H, W] of the batch.
            dtype: of the batch.

        Returns:
            On the CPU, in the order in which they are used: [B, n, n] matrices along each axis of n
            voxels with flip or shift, factors and summands [B, 1, 1, 1, 1] with intensity.
        """
        arrays: list[np.ndarray] = []
        if self._moves:
            arrays += [self._movement(rng, shape[0], length) for length in shape[2:]]
        if "intensity" in self.names:
            size = (shape[0], 1, 1, 1, 1)
            arrays += [rng.uniform(*CONTRAST, size), rng.uniform(*BRIGHTNESS, size)]
        return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for a in arrays)

    def __call__(self, x: Tensor, moves: np.random.Generator | Moves) -> Tensor:
        """Transform volumes.

        Args:
            x: [B, C, D, H, W] in [-1, 1].
            moves: what `draw` gave for such a batch, on its device; or what draws it.

        Returns:
            [B, C, D, H, W], channels_last_3d (x itself without any augmentation).

        Derivatives: all orders (linear in x).
        Cost: flip and shift 2 B C S (D + H + W) flops: products with 0/1 matrices, because the
            backward of an indexed read is a scatter. Of slabs they exchange whole volumes.
        """
        if not self.names:
            return x
        if isinstance(moves, np.random.Generator):
            batch, channels, planes, *rest = x.shape
            whole = (batch, channels, planes * self.slabs.count, *rest)
            drawn = self.draw(moves, whole, x.dtype)
            moves = tuple(placed(parameter, x.device) for parameter in drawn)
        y = x.permute(0, 2, 3, 4, 1)
        if self._moves:
            y = y - BACKGROUND
            # Moving voxels must not round them.
            with torch.autocast(x.device.type, enabled=False):
                # A voxel may come from any slab.
                y = gathered(y, self.slabs, 1)
                own = (self.slabs.own(moves[0], 1), *moves[1:3])
                for equation, matrices in zip(MOVEMENTS, own, strict=True):
                    y = torch.einsum(equation, matrices, y)
            y = y + BACKGROUND
        if "intensity" in self.names:
            contrast, brightness = moves[-2:]
            y = y * contrast + brightness
        return y.contiguous().permute(0, 4, 1, 2, 3)

    @property
    def _moves(self) -> bool:
        return "flip" in self.names or "shift" in self.names

    def _movement(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        """[B, n, n] matrices of 0 and 1: output voxel i of an axis reads input voxel j."""
        source = np.broadcast_to(np.arange(length), (batch, length))
        if "flip" in self.names:
            mirrored = rng.random((batch, 1)) < FLIP_PROBABILITY
            source = np.where(mirrored, length - 1 - source, source)
        if "shift" in self.names:
            most = int(length * LARGEST_SHIFT)
            source = source + rng.integers(-most, most + 1, (batch, 1))
        moved: np.ndarray = source[:, :, None] == np.arange(length)
        return moved
