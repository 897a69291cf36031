"""The memory layout of volumes: channels_last_3d (NDHWC)."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["channels_last", "weights_channels_last"]

_Module = TypeVar("_Module", bound=nn.Module)


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


def weights_channels_last(module: _Module) -> _Module:
    """`module` with the weights of its convolutions in NDHWC strides, values unchanged.

    Their gradients arrive so, and libraries bring such weights to their own layout faster.
    """
    for parameter in module.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return module
