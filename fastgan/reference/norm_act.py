"""Group normalisation, affine and LeakyReLU: value, first and second derivative.

`norm_act` is the definition. The explicit passes below have the signatures of every other
implementation; they compute in float64 for float64 input and in float32 otherwise.

A group holds m = (C / G) S elements. With mean mu, rstd r = (var + eps)^-1/2, xh = (x - mu) r:
z = weight xh + bias, y = z where z > 0 and negative_slope z elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "SERVES",
    "norm_act",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
]

SERVES = "every floating dtype"

# Every pass views x as [B, G, K, S]: K = C / G channels a group, S elements a channel.
_GROUP = (2, 3)
_ELEMENTS = 3


def norm_act(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None = None,  # [C] or [B, C]
    bias: Tensor | None = None,  # [C] or [B, C]
    *,
    num_groups: int,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
) -> Tensor:
    """The definition, differentiable to any order by PyTorch itself, in the dtype of x."""
    grouped = _grouped(x, num_groups)
    centred = grouped - grouped.mean(_GROUP, keepdim=True)
    z = centred * (centred.square().mean(_GROUP, keepdim=True) + eps).rsqrt()
    if weight is not None:
        z = z * _per_channel(weight, num_groups)
    if bias is not None:
        z = z + _per_channel(bias, num_groups)
    return functional.leaky_relu(z, negative_slope).reshape(x.shape)


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and (variance + eps)^-1/2 of every group, both [B, G], float32 or float64."""
    grouped = _grouped(_wide(x), num_groups)
    mean = grouped.mean(_GROUP, keepdim=True)
    # About the mean, never E[x^2] - E[x]^2: that one cancels where the mean is large.
    variance = (grouped - mean).square().mean(_GROUP)
    return mean[:, :, 0, 0], (variance + eps).rsqrt()


def norm_act_apply(
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> Tensor:
    """The value, from statistics already known."""
    _, z = _normalised(x, mean, rstd, weight, bias, num_groups)
    return _ungrouped(torch.where(z > 0, z, negative_slope * z), x)


def norm_act_fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y like x, mean [B, G] and rstd [B, G]."""
    mean, rstd = norm_act_statistics(x, num_groups, eps)
    return norm_act_apply(x, mean, rstd, weight, bias, num_groups, negative_slope), mean, rstd


def norm_act_bwd(
    g: Tensor,  # [B, C, ...] gradient of y
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return d_x like x, d_weight and d_bias like weight and bias (None where those are)."""
    xh, z = _normalised(x, mean, rstd, weight, bias, num_groups)
    u = _through_activation(g, z, num_groups, negative_slope)
    r, gamma = _per_group(rstd), _gamma(weight, xh, num_groups)
    sum_u, sum_uxh, a, b = _first_order_sums(u, xh, gamma)
    d_x = r * (gamma * u - a - b * xh)
    return _ungrouped(d_x, x), _like(sum_uxh, weight), _like(sum_u, bias)


def norm_act_bwd_bwd(
    gg_x: Tensor | None,  # [B, C, ...] gradient of d_x
    gg_weight: Tensor | None,  # like weight; gradient of d_weight
    gg_bias: Tensor | None,  # like bias; gradient of d_bias
    g: Tensor,  # [B, C, ...] gradient of y
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Derivatives of `norm_act_bwd`: d_g and d_x like x, d_weight like weight.

    mean and rstd count as functions of x. The derivative for the bias is zero almost everywhere
    and is not returned. A gg_* that is None counts as zero.
    """
    xh, z = _normalised(x, mean, rstd, weight, bias, num_groups)
    u = _through_activation(g, z, num_groups, negative_slope)
    r, gamma = _per_group(rstd), _gamma(weight, xh, num_groups)
    sum_u, sum_uxh, a, b = _first_order_sums(u, xh, gamma)
    m = xh.shape[2] * xh.shape[3]

    d_u, d_x = torch.zeros_like(xh), torch.zeros_like(xh)
    d_gamma = torch.zeros_like(sum_u)
    if gg_x is not None:
        v = _grouped(gg_x.to(xh.dtype), num_groups)
        v_xh = (v * xh).sum(_ELEMENTS, keepdim=True)
        v_u = (v * u).sum(_ELEMENTS, keepdim=True)
        v_mean = v.mean(_GROUP, keepdim=True)
        c = v_xh.sum(2, keepdim=True) / m
        k = (gamma * v_u).sum(2, keepdim=True) / m - v_mean * a
        d_u = gamma * r * (v - v_mean - c * xh)
        d_x = -r.square() * (c * (gamma * u - a) + b * (v - v_mean) + (k - 3 * b * c) * xh)
        d_gamma = r * (v_u - v_mean * sum_u - c * sum_uxh)
    if gg_weight is not None:
        h = _per_channel(gg_weight.to(xh.dtype), num_groups)
        d_u = d_u + h * xh
        mean_hu = (h * sum_u).sum(2, keepdim=True) / m
        mean_huxh = (h * sum_uxh).sum(2, keepdim=True) / m
        d_x = d_x + r * (h * u - mean_hu - mean_huxh * xh)
    if gg_bias is not None:
        d_u = d_u + _per_channel(gg_bias.to(xh.dtype), num_groups)
    d_g = torch.where(z > 0, d_u, negative_slope * d_u)
    return _ungrouped(d_g, g), _ungrouped(d_x, x), _like(d_gamma, weight)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    # -1 could not be told where x is empty.
    batch, channels, *space = x.shape
    return x.reshape(batch, num_groups, channels // num_groups, math.prod(space))


def _ungrouped(t: Tensor, like: Tensor) -> Tensor:
    return t.reshape(like.shape).to(like.dtype)


def _per_group(t: Tensor) -> Tensor:  # [B, G]
    return t[:, :, None, None]


def _per_channel(t: Tensor, num_groups: int) -> Tensor:  # [C] or [B, C]
    return t.reshape(-1, num_groups, t.shape[-1] // num_groups, 1)


def _gamma(weight: Tensor | None, xh: Tensor, num_groups: int) -> Tensor:
    return xh.new_ones(()) if weight is None else _per_channel(weight.to(xh.dtype), num_groups)


def _normalised(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
) -> tuple[Tensor, Tensor]:
    """Return xh and z, both [B, G, K, S]."""
    xh = (_grouped(_wide(x), num_groups) - _per_group(mean)) * _per_group(rstd)
    z = _gamma(weight, xh, num_groups) * xh
    return xh, z if bias is None else z + _per_channel(bias.to(z.dtype), num_groups)


def _through_activation(g: Tensor, z: Tensor, num_groups: int, negative_slope: float) -> Tensor:
    wide = _grouped(g.to(z.dtype), num_groups)
    return torch.where(z > 0, wide, negative_slope * wide)


def _first_order_sums(
    u: Tensor, xh: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of u and u xh a channel; means of gamma u and gamma u xh a group."""
    m = xh.shape[2] * xh.shape[3]
    sum_u = u.sum(_ELEMENTS, keepdim=True)
    sum_uxh = (u * xh).sum(_ELEMENTS, keepdim=True)
    a = (gamma * sum_u).sum(2, keepdim=True) / m
    b = (gamma * sum_uxh).sum(2, keepdim=True) / m
    return sum_u, sum_uxh, a, b


def _like(sums: Tensor, parameter: Tensor | None) -> Tensor | None:
    """Channel sums [B, G, K, 1] in the shape of the parameter they belong to."""
    if parameter is None:
        return None
    per_sample = sums.reshape(sums.shape[0], -1)
    return (per_sample if parameter.dim() == 2 else per_sample.sum(0)).to(parameter.dtype)
