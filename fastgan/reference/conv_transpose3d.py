"""Transposed 3D convolution: PyTorch's own, whose derivatives PyTorch derives."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

__all__ = ["conv_transpose3d"]


def conv_transpose3d(
    x: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [C, K, kD, kH, kW]
    bias: Tensor | None = None,  # [K]
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
) -> Tensor:  # [B, K, D', H', W']
    """The definition."""
    return functional.conv_transpose3d(x, weight, bias, stride, padding, output_padding)
