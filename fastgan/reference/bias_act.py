"""Bias and LeakyReLU in plain PyTorch.

`bias_act` is the definition. The explicit passes below have the signatures of every other
implementation; which side of the kink an element was on is one bit of `bits`, in memory order.
The masked ones are what runs on a GPU whose kernels are not proven: a byte an element, and fewer
launches of PyTorch's own than packing and unpacking takes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "SERVES",
    "bias_act",
    "bias_act_bwd",
    "bias_act_fwd",
    "bias_act_masked_bwd",
    "bias_act_masked_fwd",
]

SERVES = "every floating dtype"

_aten: Any = torch.ops.aten
# Bit 56 - 7 i for each i: moves bit 0 of byte i to bit i of byte 7, on a little-endian machine.
_GATHER = 0x0102040810204080


def bias_act(
    x: Tensor,  # [B, C, ...]
    bias: Tensor | None = None,  # [C]
    *,
    negative_slope: float = 0.2,
) -> Tensor:  # like x
    """The definition."""
    z = x if bias is None else x + bias.view(1, -1, *(1,) * (x.dim() - 2))
    return functional.leaky_relu(z, negative_slope)


def bias_act_fwd(
    x: Tensor,  # [B, C, ...] contiguous, channels first or last
    bias: Tensor | None,  # [C]
    negative_slope: float,
) -> tuple[Tensor, Tensor]:  # like x; [(numel + 7) // 8] uint8
    """The value, and the bits."""
    y = _value(x, bias, negative_slope)
    # A slope of zero turns negative values into -0.0, which is not above zero either.
    above = _in_memory_order(y) > 0
    if above.numel() % 8:
        above = functional.pad(above, (0, -above.numel() % 8))
    # Eight bytes of 0 or 1 as a number: the product has one bit of each in its last byte.
    gathered = above.view(torch.int64).mul_(_GATHER)
    return y, gathered.view(torch.uint8)[7::8].contiguous()


def bias_act_bwd(
    g: Tensor,  # [B, C, ...] in the memory order of the bits
    bits: Tensor,  # [(numel + 7) // 8] uint8
    negative_slope: float,
) -> Tensor:  # like g
    """The derivative."""
    flat = _in_memory_order(g)
    above = (bits[:, None] & _each_bit(g.device)).view(-1)[: g.numel()]
    # Not zero is above zero: the function asks no more of its second argument.
    d_x: Tensor = _aten.leaky_relu_backward(flat, above, negative_slope, False)
    return d_x.as_strided(g.shape, g.stride())


def bias_act_masked_fwd(
    x: Tensor,  # [B, C, ...]
    bias: Tensor | None,  # [C]
    negative_slope: float,
) -> tuple[Tensor, Tensor]:  # like x; bool like x
    """The value, and where it is above zero."""
    y = _value(x, bias, negative_slope)
    return y, y > 0


def bias_act_masked_bwd(
    g: Tensor,  # [B, C, ...]
    mask: Tensor,  # bool like g
    negative_slope: float,
) -> Tensor:  # like g
    """The derivative."""
    d_x: Tensor = _aten.leaky_relu_backward(g, mask, negative_slope, False)
    return d_x


def _value(x: Tensor, bias: Tensor | None, negative_slope: float) -> Tensor:
    if bias is None:
        return functional.leaky_relu(x, negative_slope)
    z = x + bias.view(1, -1, *(1,) * (x.dim() - 2))
    return functional.leaky_relu_(z, negative_slope)


def _in_memory_order(t: Tensor) -> Tensor:
    flat = t if t.is_contiguous() else t.movedim(1, -1)
    return flat.reshape(-1)


@cache
def _each_bit(device: torch.device) -> Tensor:
    """1, 2, 4, ... 128; made once, for every derivative needs it."""
    one = torch.ones(8, dtype=torch.uint8, device=device)
    return one << torch.arange(8, dtype=torch.uint8, device=device)
