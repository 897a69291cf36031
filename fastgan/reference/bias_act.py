"""Bias and LeakyReLU in plain PyTorch.

`bias_act` is the definition. The explicit passes below have the signatures of every other
implementation; which side of the kink an element was on is one bit of `bits`, in memory order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["SERVES", "bias_act", "bias_act_bwd", "bias_act_fwd"]

SERVES = "every floating dtype"


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
    y = bias_act(x, bias, negative_slope=negative_slope)
    # A slope of zero turns negative values into -0.0, which is not above zero either.
    above = _in_memory_order(y) > 0
    padded = functional.pad(above.to(torch.uint8), (0, -above.numel() % 8))
    return y, (padded.view(-1, 8) << _shifts(y)).sum(1, dtype=torch.uint8)


def bias_act_bwd(
    g: Tensor,  # [B, C, ...] in the memory order of the bits
    bits: Tensor,  # [(numel + 7) // 8] uint8
    negative_slope: float,
) -> Tensor:  # like g
    """The derivative."""
    flat = _in_memory_order(g)
    above = (bits[:, None] >> _shifts(g) & 1).view(-1)[: g.numel()].bool()
    d_x = torch.where(above, flat, negative_slope * flat)
    return d_x.as_strided(g.shape, g.stride())


def _in_memory_order(t: Tensor) -> Tensor:
    flat = t if t.is_contiguous() else t.movedim(1, -1)
    return flat.reshape(-1)


def _shifts(like: Tensor) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=like.device)
