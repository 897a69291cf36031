"""3D convolution: PyTorch's own, whose derivatives PyTorch derives."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

__all__ = ["SERVES", "conv3d"]

SERVES = "every floating dtype, by PyTorch's own kernels"


def conv3d(
    x: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [K, C / groups, kD, kH, kW]
    bias: Tensor | None = None,  # [K]
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:  # [B, K, D', H', W']
    """The definition."""
    return functional.conv3d(x, weight, bias, stride, padding, dilation, groups)
