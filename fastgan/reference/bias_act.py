"""Bias and LeakyReLU in plain PyTorch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["bias_act"]


def bias_act(
    x: Tensor,  # [B, C, ...]
    bias: Tensor | None = None,  # [C]
    *,
    negative_slope: float = 0.2,
) -> Tensor:  # like x
    """The definition."""
    z = x if bias is None else x + bias.view(1, -1, *(1,) * (x.dim() - 2))
    return functional.leaky_relu(z, negative_slope)
