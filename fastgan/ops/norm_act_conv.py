"""Norm, activation and convolution, cut where a network holds least: between raw outputs.

    next_z = conv3d(LeakyReLU(weight (z - mean) rstd + bias), conv_weight) + conv_bias

A chain of these passes raw convolution outputs z along, each with the statistics its norm needs.
The activated volume lives in a scratch buffer and is computed again for the weight gradient.

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

from fastgan.ops.casts import cast
from fastgan.ops.checks import check_affine, check_groups, floating, require, require_tensors
from fastgan.ops.conv3d import checked_conv3d, conv3d
from fastgan.ops.conv_transpose3d import checked_conv_transpose3d, conv_transpose3d
from fastgan.ops.group_statistics import group_statistics
from fastgan.ops.norm_act import norm_act_apply, split_statistics
from fastgan.ops.norm_act_conv_passes import norm_act_conv_fprop

__all__ = ["norm_act_conv", "norm_act_conv_transpose"]

_Size = int | Sequence[int]


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
    stride: _Size = 1,
    padding: _Size = 0,
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
            norm), else num_groups; 0: no statistics are computed.

    Returns:
        next_z: [B, K, D', H', W'].
        next_statistics: [B, next_groups, 2] like `statistics`.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: two orders, as `norm_act` (in z also through the statistics) and `conv3d`: the
        backward is operators that have a derivative, explicit where norms need one.
    Deterministic: as PyTorch's convolution.
    Cost: the convolution's flops and 10 B C S a pass; keeps z and nothing else, of width w: w bytes
        an element where norm and convolution apart keep 2 w. The weight gradient computes the
        activated volume again: 2 w more bytes of traffic.
    Autocast: the convolution computes in autocast's dtype; the activated volume is kept where z has
        another one.

    >>> z = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    >>> s = group_statistics(z, num_groups=1, eps=1e-12)
    >>> w = torch.ones(1, 1, 1, 1, 1)
    >>> norm_act_conv(z, s, None, None, w, num_groups=1)[0].flatten()
    tensor([-0.2000,  1.0000])
    """
    op = "norm_act_conv"
    _check(op, z, weight, bias, num_groups, eps)
    mean, rstd = split_statistics(op, z, statistics, num_groups)
    slope = float(negative_slope)
    geometry = checked_conv3d(z, conv_weight, conv_bias, stride, padding, 1, 1)
    if _compute_dtype(z) != z.dtype:
        a = norm_act_apply(z, mean, rstd, weight, bias, num_groups, slope)
        y = conv3d(a, conv_weight, conv_bias, stride=stride, padding=padding)
    else:
        parameters = _cast(conv_weight, z), weight, bias, _cast(conv_bias, z)
        y = norm_act_conv_fprop(z, mean, rstd, *parameters, num_groups, slope, [], *geometry[:2])
    return y, _next_statistics(z, y, num_groups, next_groups, eps)


def norm_act_conv_transpose(
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
    stride: _Size = 1,
    padding: _Size = 0,
    output_padding: _Size = 0,
    next_groups: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`norm_act_conv` with the transposed convolution of `conv_transpose3d`.

    Args:
        z: raw output of the convolution before, [B, C, D, H, W], floating.
        statistics: [B, G, 2], mean and rstd of the groups of z, as in `norm_act_conv`.
        weight: [C] or [B, C] affine of the norm; None: 1.
        bias: [C] or [B, C] affine of the norm; None: 0.
        conv_weight: [C, K, kD, kH, kW].
        conv_bias: [K] or None.
        num_groups: G of z.
        eps: added to the variance of next_z, > 0.
        negative_slope: slope below zero; 1 is no activation, 0 is ReLU.
        stride: outputs between two inputs, int or one for each of D, H, W.
        padding: outputs cut off on both sides, int or one for each of D, H, W.
        output_padding: outputs kept at the far side, 0 <= output_padding < stride.
        next_groups: groups of next_z, as in `norm_act_conv`.

    Returns:
        next_z [B, K, D', H', W'] and next_statistics [B, next_groups, 2].

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: two orders, as `norm_act_conv`.
    Deterministic: as PyTorch's convolution.
    Cost: as `norm_act_conv`.
    Autocast: as `norm_act_conv`.

    >>> z = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    >>> s = group_statistics(z, num_groups=1, eps=1e-12)
    >>> w = torch.ones(1, 1, 2, 1, 1)
    >>> norm_act_conv_transpose(z, s, None, None, w, num_groups=1, stride=2)[0].shape
    torch.Size([1, 1, 4, 1, 1])
    """
    op = "norm_act_conv_transpose"
    _check(op, z, weight, bias, num_groups, eps)
    mean, rstd = split_statistics(op, z, statistics, num_groups)
    slope = float(negative_slope)
    size, strides, paddings = checked_conv_transpose3d(
        z, conv_weight, conv_bias, stride, padding, output_padding
    )
    if _compute_dtype(z) != z.dtype:
        a = norm_act_apply(z, mean, rstd, weight, bias, num_groups, slope)
        extra = {"stride": stride, "padding": padding, "output_padding": output_padding}
        y = conv_transpose3d(a, conv_weight, conv_bias, **extra)
    else:
        parameters = _cast(conv_weight, z), weight, bias, _cast(conv_bias, z)
        rest = num_groups, slope, size, strides, paddings
        y = norm_act_conv_fprop(z, mean, rstd, *parameters, *rest)
    return y, _next_statistics(z, y, num_groups, next_groups, eps)


def _check(
    op: str, z: Tensor, weight: Tensor | None, bias: Tensor | None, num_groups: int, eps: float
) -> None:
    require_tensors(op, z=z)
    require(z.dim() == 5, op, "z must be [B, C, D, H, W]", list(z.shape))
    floating(op, "z", z)
    check_groups(op, z, num_groups, eps)
    check_affine(op, z, weight, bias)


def _compute_dtype(z: Tensor) -> torch.dtype:
    """Dtype of the convolution: autocast's, or that of z."""
    device = z.device.type
    if z.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return z.dtype
    return torch.get_autocast_dtype(device)


def _cast(parameter: Tensor | None, z: Tensor) -> Tensor | None:
    return None if parameter is None else cast(parameter, z.dtype)


def _next_statistics(
    z: Tensor, next_z: Tensor, num_groups: int, next_groups: int | None, eps: float
) -> Tensor:
    if next_groups is None:
        next_groups = next_z.shape[1] if num_groups == z.shape[1] else num_groups
    if next_groups == 0:
        return next_z.new_empty((next_z.shape[0], 0, 2))
    return group_statistics(next_z, num_groups=next_groups, eps=eps)
