"""Blocks of voxels as channels, and back: what brings one-channel volumes to efficient widths.

A convolution from or to one channel uses a sixteenth of the machine at best: its time is the
volume's memory traffic. Folding 2x2x2 blocks gives eight channels on an eighth of the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["fold", "unfold"]


def fold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Move blocks of voxels into channels.

    Args:
        x: [B, C, D, H, W], each spatial axis a multiple of its factor.
        factors: three block lengths f0, f1, f2, each >= 1.

    Returns:
        [B, f0 f1 f2 C, D / f0, H / f1, W / f2], channels_last_3d; a copy unless all factors are 1.

    Derivatives: all orders (a permutation). Cost: one read and one write of x.

    Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network", equation 4 reversed.
    """
    f0, f1, f2 = factors
    if (f0, f1, f2) == (1, 1, 1):
        return x
    b, c, d, h, w = x.shape
    blocks = x.permute(0, 2, 3, 4, 1).reshape(b, d // f0, f0, h // f1, f1, w // f2, f2, c)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6, 7)
    y = blocks.reshape(b, d // f0, h // f1, w // f2, f0 * f1 * f2 * c)
    return y.permute(0, 4, 1, 2, 3)


def unfold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """The inverse of `fold`.

    Args:
        x: [B, f0 f1 f2 C, D, H, W].
        factors: f0, f1, f2.

    Returns:
        [B, C, D f0, H f1, W f2], channels_last_3d.

    Derivatives: all orders (a permutation). Cost: one read and one write of x.
    """
    f0, f1, f2 = factors
    if (f0, f1, f2) == (1, 1, 1):
        return x
    b, channels, d, h, w = x.shape
    c = channels // math.prod(factors)
    blocks = x.permute(0, 2, 3, 4, 1).reshape(b, d, h, w, f0, f1, f2, c)
    blocks = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7)
    return blocks.reshape(b, d * f0, h * f1, w * f2, c).permute(0, 4, 1, 2, 3)
