"""The compiled kernels of `fold` and `unfold`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded
from fastgan.ops.implementations.layout import laid_out

__all__ = ["DTYPES", "SERVES", "fold", "supports", "unfold"]

DTYPES = (*extension.FLOATING, torch.float16, torch.int64, torch.int16, torch.int8, torch.uint8)
SERVES = extension.named(DTYPES)
supports = partial(extension.unfit, "fold", "cpu", DTYPES)


def fold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """[B, C, D, H, W] -> [B, f0 f1 f2 C, D / f0, H / f1, W / f2] channels_last_3d."""
    x = laid_out(x, torch.channels_last_3d)
    b, c, *sizes = x.shape
    d, h, w = (n // f for n, f in zip(sizes, factors, strict=True))
    y = x.new_empty((b, d, h, w, c * math.prod(factors))).permute(0, 4, 1, 2, 3)
    if x.numel():
        loaded().fold(x, factors, torch.get_num_threads(), y)
    return y


def unfold(x: Tensor, factors: Sequence[int]) -> Tensor:
    """[B, f0 f1 f2 C, D, H, W] -> [B, C, D f0, H f1, W f2] channels_last_3d."""
    x = laid_out(x, torch.channels_last_3d)
    b, channels, *sizes = x.shape
    d, h, w = (n * f for n, f in zip(sizes, factors, strict=True))
    y = x.new_empty((b, d, h, w, channels // math.prod(factors))).permute(0, 4, 1, 2, 3)
    if x.numel():
        loaded().unfold(x, factors, torch.get_num_threads(), y)
    return y
