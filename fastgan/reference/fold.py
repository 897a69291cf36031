"""Definition of fold and unfold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["SERVES", "fold", "unfold"]

SERVES = "every dtype"


def fold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """[B, C, D, H, W] -> [B, f0 f1 f2 C, D / f0, H / f1, W / f2], channels_last_3d."""
    f0, f1, f2 = factors
    b, c, d, h, w = x.shape
    blocks = x.permute(0, 2, 3, 4, 1).reshape(b, d // f0, f0, h // f1, f1, w // f2, f2, c)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6, 7)
    y = blocks.reshape(b, d // f0, h // f1, w // f2, f0 * f1 * f2 * c)
    return y.permute(0, 4, 1, 2, 3)


def unfold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """[B, f0 f1 f2 C, D, H, W] -> [B, C, D f0, H f1, W f2], channels_last_3d."""
    f0, f1, f2 = factors
    b, channels, d, h, w = x.shape
    c = channels // math.prod(factors)
    blocks = x.permute(0, 2, 3, 4, 1).reshape(b, d, h, w, f0, f1, f2, c)
    y = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, d * f0, h * f1, w * f2, c)
    return y.permute(0, 4, 1, 2, 3)
