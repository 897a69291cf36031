"""Norm, activation and convolution, cut where a network holds least: between raw outputs.

    next_z = conv3d(LeakyReLU(weight (z - mean) rstd + bias), conv_weight) + conv_bias

A chain of these passes raw convolution outputs z along, each with the statistics its norm needs.

What the derivative of the statistics means: `statistics` must be those of z, and counts as a
function of z. The value is computed from the numbers given; the gradient of z contains the share
that runs through mean and rstd; the argument itself receives no gradient. So a chain has exactly
the derivatives of norm and convolution composed, and no gradient is counted twice.
The statistics returned are ordinary functions of next_z, differentiable for whoever else uses them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.ops.checks import accumulator, floating, require
from fastgan.ops.conv3d import conv3d
from fastgan.ops.norm_act import check_affine, check_groups, norm_act_apply
from fastgan.reference import norm_act as reference

__all__ = ["group_statistics", "norm_act_conv"]


def group_statistics(z: Tensor, *, num_groups: int, eps: float = 1e-5) -> Tensor:
    """Mean and (variance + eps)^-1/2 of groups of channels: what starts a chain.

    Args:
        z: [B, C, ...] floating.
        num_groups: G, a divisor of C.
        eps: added to the (biased) variance, > 0.

    Returns:
        [B, G, 2] float32 (float64 for float64 z): mean, rstd.

    Raises:
        ConfigError: a shape, dtype or setting that does not fit; a group of one element.

    Derivatives: every order, by PyTorch.
    Deterministic: yes.
    Cost: 4 B C S flops, z read twice.

    >>> group_statistics(torch.tensor([[[1.0, 3.0]]]), num_groups=1, eps=1e-12)
    tensor([[[2., 1.]]])
    """
    op = "group_statistics"
    require(z.dim() >= 2, op, "z must be [B, C, ...]", list(z.shape))
    floating(op, "z", z)
    check_groups(op, z, num_groups, eps)
    return torch.stack(reference.statistics(z, num_groups, eps), dim=-1)


def norm_act_conv(
    z: Tensor,
    statistics: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    conv_weight: Tensor,
    conv_bias: Tensor | None = None,
    *,
    num_groups: int,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    next_groups: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalise and activate z by its statistics, convolve, and return the statistics of that.

    Args:
        z: raw output of the convolution before, [B, C, D, H, W], floating.
        statistics: [B, G, 2] float32 (float64 for float64 z): mean and rstd of the groups of z,
            from the call before or from `group_statistics`. Part of z for the derivative.
        weight: [C] or [B, C] affine of the norm; None: 1.
        bias: [C] or [B, C] affine of the norm; None: 0.
        conv_weight: [K, C, kD, kH, kW].
        conv_bias: [K] or None.
        num_groups: G of z.
        eps: added to the variance of next_z, > 0.
        negative_slope: slope below zero; 1 is no activation, 0 is ReLU.
        stride: of the convolution, int or one for each of D, H, W.
        padding: zeros around the activated volume, int or one for each of D, H, W.
        next_groups: groups of next_z; None: K where num_groups is C (instance norm stays instance
            norm), else num_groups.

    Returns:
        next_z: [B, K, D', H', W'].
        next_statistics: [B, next_groups, 2] like `statistics`.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: two orders, as `norm_act` (in z also through the statistics) and `conv3d`.
    Deterministic: as PyTorch's convolution.
    Cost: the convolution's flops and 10 B C S; keeps z and the activated volume.
    Autocast: the convolution computes in autocast's dtype.

    >>> z = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    >>> s = group_statistics(z, num_groups=1, eps=1e-12)
    >>> w = torch.ones(1, 1, 1, 1, 1)
    >>> norm_act_conv(z, s, None, None, w, num_groups=1)[0].flatten()
    tensor([-0.2000,  1.0000])
    """
    op = "norm_act_conv"
    require(z.dim() == 5, op, "z must be [B, C, D, H, W]", list(z.shape))
    floating(op, "z", z)
    check_groups(op, z, num_groups, eps)
    check_affine(op, z, weight, bias)
    expected = [z.shape[0], num_groups, 2]
    require(
        list(statistics.shape) == expected and statistics.dtype == accumulator(z),
        op,
        f"statistics must be {expected} {accumulator(z)}",
        f"{list(statistics.shape)} {statistics.dtype}",
    )
    # Detached: the graph behind the statistics would keep the volume they were computed from.
    mean, rstd = statistics.detach().movedim(-1, 0).contiguous()
    a = norm_act_apply(z, mean, rstd, weight, bias, num_groups, float(negative_slope))
    next_z = conv3d(a, conv_weight, conv_bias, stride=stride, padding=padding)
    if next_groups is None:
        next_groups = next_z.shape[1] if num_groups == z.shape[1] else num_groups
    return next_z, group_statistics(next_z, num_groups=next_groups, eps=eps)
