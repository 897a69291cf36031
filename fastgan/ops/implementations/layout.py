"""Strides that say which memory format a tensor has."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["laid_out"]


def laid_out(x: Tensor, form: torch.memory_format) -> Tensor:
    """Bring x to a memory format, with strides that say so also along axes of length one.

    Libraries read the format off the strides, where one channel looks like either.
    """
    x = x.contiguous(memory_format=form)
    if form != torch.channels_last_3d:
        return x
    _, c, d, h, w = x.shape
    strides = (d * h * w * c, 1, h * w * c, w * c, c)
    return x if x.stride() == strides else x.as_strided(x.shape, strides)
