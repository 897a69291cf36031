"""Norm, activation and convolution from one raw convolution output to the next."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from fastgan.reference.norm_act import norm_act, norm_act_statistics

__all__ = ["SERVES", "norm_act_conv"]

SERVES = "every floating dtype, composed of norm_act and conv3d"


def norm_act_conv(
    z: Tensor,  # [B, C, D, H, W]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    conv_weight: Tensor,  # [K, C, kD, kH, kW]
    conv_bias: Tensor | None,  # [K]
    *,
    num_groups: int,
    next_groups: int,
    eps: float,
    negative_slope: float,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
) -> tuple[Tensor, Tensor]:  # [B, K, D', H', W'] and its statistics [B, next_groups, 2]
    """The definition, which computes the statistics of z itself."""
    a = norm_act(z, weight, bias, num_groups=num_groups, eps=eps, negative_slope=negative_slope)
    next_z = functional.conv3d(a, conv_weight, conv_bias, stride, padding)
    return next_z, norm_act_statistics(next_z, next_groups, eps).movedim(0, -1)
