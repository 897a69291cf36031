"""The memory layout of volumes: channels_last_3d (NDHWC)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["channels_last"]


def channels_last(x: Tensor) -> Tensor:
    """`x` with NDHWC strides, copied only where they differ.

    With one channel both layouts are the same memory and torch would keep calling it NCDHW, so
    that the first convolution returns NCDHW; here the strides are rewritten too.

    Args:
        x: [B, C, D, H, W] any dtype and layout.

    Returns:
        [B, C, D, H, W], channels_last_3d.

    Derivatives: all orders (a view or a copy).
    """
    if x.shape[1] == 1:
        b, _, d, h, w = x.shape
        return x.reshape(b, d, h, w, 1).permute(0, 4, 1, 2, 3)
    return x.contiguous(memory_format=torch.channels_last_3d)
