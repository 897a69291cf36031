"""Group normalisation, affine and LeakyReLU: value, first and second derivative.

`norm_act` is the definition. The explicit passes below have the signatures of every other
implementation, and are what runs on a GPU whose kernels are not proven: few launches of PyTorch's
own, in any memory format. What belongs to a channel is float32 (float64 for float64); what has an
element a voxel keeps the dtype of x, but for sums that are not yet complete.

A group holds m = (C / G) S elements. With mean mu, rstd r = (var + eps)^-1/2, xh = (x - mu) r:
z = weight xh + bias, y = z where z > 0 and negative_slope z elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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

_aten: Any = torch.ops.aten

Averaged = Callable[[Tensor], Tensor]


def unchanged(means: Tensor) -> Tensor:
    """The mean over the parts of a volume that has one."""
    return means


# The definition views x as [B, G, K, S]: K = C / G channels a group, S elements a channel.
_GROUP = (2, 3)
# In smaller groups derivatives cancel to what is left of their roundings.
_FEW = 64


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


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> Tensor:
    """Mean and (variance + eps)^-1/2 of every group, [2, B, G], float32 or float64."""
    return torch.stack(_moments(x, num_groups, eps))


def _moments(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    grouped = x.view(x.shape[0], num_groups, -1, *x.shape[2:])
    places = tuple(range(2, grouped.dim()))
    # Of half width PyTorch would round both to half width.
    wide = grouped if x.dtype in (torch.float32, torch.float64) else grouped.float()
    variance, mean = torch.var_mean(wide, places, correction=0)
    return mean, (variance + eps).rsqrt()


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
    centred, mu = _centred(x, mean)
    y = _z(x, centred, mu, _scale(x, rstd, weight), bias)
    return y if negative_slope == 1 else functional.leaky_relu_(y, negative_slope)


def norm_act_fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y like x, mean [B, G] and rstd [B, G]."""
    mean, rstd = _moments(x, num_groups, eps)
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
    averaged: Averaged = unchanged,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return d_x like x, d_weight and d_bias like weight and bias (None where those are).

    Where x is one of several equal parts of a volume, `averaged` gives the mean over the parts of
    what it is called with; d_weight and d_bias are the share of this part.
    """
    if _few(x, num_groups):
        wide = (g.float(), x.float(), mean, rstd, weight, bias)
        d_x, *sums = norm_act_bwd(*wide, num_groups, negative_slope, averaged)
        return d_x.to(x.dtype), sums[0], sums[1]
    centred, mu = _centred(x, mean)
    scale = _scale(x, rstd, weight)
    u = _z(x, centred, mu, scale, bias)
    _through_activation(g, u, negative_slope, out=u)
    r = _of_channels(x, rstd)
    of_u = _sums(u, centred, mu, r)
    # d_x = r (gamma u - a - b xh), the last two as an affine map of x
    of_z = of_u if weight is None else of_u * weight.to(mean.dtype)
    means = _means(of_z, x, num_groups, averaged)
    minus_ra, minus_rb = (means * -r).unbind()
    of_x = r * minus_rb
    d_x = _affine(centred, of_x, _less(minus_ra, of_x, mu))
    d_x = torch.addcmul(d_x, u, _over_voxels(scale, x), out=_like_dense(d_x, x))
    return d_x, _like(of_u[1], weight), _like(of_u[0], bias)


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
    averaged: Averaged = unchanged,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Derivatives of `norm_act_bwd`: d_g and d_x like x, d_weight like weight.

    mean and rstd count as functions of x. The derivative for the bias is zero almost everywhere
    and is not returned. A gg_* that is None counts as zero.
    """
    if _few(x, num_groups):
        v = None if gg_x is None else gg_x.float()
        rest = (gg_weight, gg_bias, g.float(), x.float(), mean, rstd, weight, bias)
        d_g, d_x, d_weight = norm_act_bwd_bwd(v, *rest, num_groups, negative_slope, averaged)
        return d_g.to(g.dtype), d_x.to(x.dtype), d_weight
    centred, mu = _centred(x, mean)
    z = _z(x, centred, mu, _scale(x, rstd, weight), bias)
    u = _through_activation(g, z, negative_slope)
    r, gamma = _of_channels(x, rstd), _gamma(weight, mean)
    of_u = _sums(u, centred, mu, r)
    sum_u, sum_uxh = of_u.unbind()
    rows = [*(gamma * of_u).unbind()]
    if gg_x is not None:
        sum_v, v_xh = _sums(gg_x, centred, mu, r).unbind()
        v_u = _sum(gg_x * u, mean)
        rows += [sum_v, v_xh, gamma * v_u]
    if gg_weight is not None:
        h = gg_weight.to(mean.dtype)
        rows += [*(h * of_u).unbind()]
    a, b, *means = _means(torch.stack(rows), x, num_groups, averaged).unbind()

    # of a channel: d_g = s (g_v v + g_xh xh + g_one), d_x = x_u u + x_v v + x_xh xh + x_one
    r2 = r.square()
    g_xh = g_one = x_u = x_xh = x_one = d_gamma = torch.zeros_like(sum_u)
    if gg_x is not None:
        v_mean, c, v_u_mean = means[:3]
        g_v, x_v, r2c = gamma * r, -r2 * b, r2 * c
        g_xh, g_one, x_u = -g_v * c, -g_v * v_mean, -r2c * gamma
        x_xh = r2 * (v_mean * a + 3 * b * c - v_u_mean)
        x_one = r2c * a - x_v * v_mean
        d_gamma = r * (v_u - v_mean * sum_u - c * sum_uxh)
    if gg_weight is not None:
        h_u, h_uxh = means[-2:]
        g_xh, x_u = g_xh + h, x_u + r * h
        x_xh, x_one = x_xh - r * h_uxh, x_one - r * h_u
    if gg_bias is not None:
        g_one = g_one + gg_bias.to(mean.dtype)
    # xh = r (centred - mu)
    g_xh, x_xh = g_xh * r, x_xh * r
    d_g = _affine(centred, g_xh, _less(g_one, g_xh, mu))
    d_x = _affine(centred, x_xh, _less(x_one, x_xh, mu))
    if gg_x is not None:
        d_g.addcmul_(gg_x, _over_voxels(g_v, x))
        d_x.addcmul_(gg_x, _over_voxels(x_v, x))
    d_g = _through_activation(d_g, z, negative_slope, out=z)
    d_x = torch.addcmul(d_x, u, _over_voxels(x_u, x), out=_like_dense(d_x, x))
    return d_g, d_x, _like(d_gamma, weight)


def _few(x: Tensor, num_groups: int) -> bool:
    """Whether x, of half width, has so few elements a group that roundings do not average out."""
    narrow = x.dtype in (torch.float16, torch.bfloat16)
    return narrow and x.numel() < _FEW * x.shape[0] * num_groups


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    # -1 could not be told where x is empty.
    batch, channels, *space = x.shape
    return x.reshape(batch, num_groups, channels // num_groups, math.prod(space))


def _per_channel(t: Tensor, num_groups: int) -> Tensor:  # [C] or [B, C]
    return t.reshape(-1, num_groups, t.shape[-1] // num_groups, 1)


def _of_channels(x: Tensor, t: Tensor) -> Tensor:
    """[B, C] of t [B, G]."""
    channels = x.shape[1]
    if t.shape[1] == channels:
        return t
    return t.repeat_interleave(channels // t.shape[1], 1, output_size=channels)


def _over_voxels(t: Tensor, x: Tensor) -> Tensor:
    """[B or 1, C, 1, ...] of t [B, C] or [C]."""
    return t.view(-1, x.shape[1], *(1,) * (x.dim() - 2))


def _gamma(weight: Tensor | None, mean: Tensor) -> Tensor:
    return mean.new_ones(()) if weight is None else weight.to(mean.dtype)


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Scale x + shift by channels [B, C], in their dtype and the memory format of x."""
    return torch.addcmul(_over_voxels(shift, x), x, _over_voxels(scale, x))


def _centred(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor | None]:
    """X less a number for each channel, and the mean that is left in it, [B, C]; None: 0.

    About its mean where x has the digits that a large mean would cost; at half width x itself.
    """
    mu = _of_channels(x, mean)
    if x.dtype != mean.dtype:
        return x, mu
    return x - _over_voxels(mu, x), None


def _scale(x: Tensor, rstd: Tensor, weight: Tensor | None) -> Tensor:
    """[B, C]: what the centred x is multiplied by."""
    r = _of_channels(x, rstd)
    return r if weight is None else r * weight.to(rstd.dtype)


def _less(shift: Tensor, scale: Tensor, mu: Tensor | None) -> Tensor:
    """Shift - scale mu."""
    return shift if mu is None else torch.addcmul(shift, mu, scale, value=-1)


def _z(x: Tensor, centred: Tensor, mu: Tensor | None, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Value before the activation, rounded alike in every pass, so that each finds its side."""
    shift = scale.new_zeros(()) if bias is None else bias.to(scale.dtype)
    shift, out = _less(shift, scale, mu), torch.empty_like(x)
    by = _over_voxels(scale, x)
    if bias is None and mu is None:
        return torch.mul(centred, by, out=out)
    return torch.addcmul(_over_voxels(shift, x), centred, by, out=out)


def _like_dense(wide: Tensor, x: Tensor) -> Tensor:
    """Where a result like x goes: into `wide` itself where that is of its dtype."""
    return wide if wide.dtype == x.dtype else torch.empty_like(x)


def _through_activation(
    g: Tensor, z: Tensor, negative_slope: float, out: Tensor | None = None
) -> Tensor:
    """Gradient g of the activation's output, as that of its input z."""
    if out is None:
        out = torch.empty_like(z)
    u: Tensor = _aten.leaky_relu_backward.grad_input(g, z, negative_slope, False, grad_input=out)
    return u


def _sum(t: Tensor, mean: Tensor) -> Tensor:
    """[B, C]: over the voxels of a channel, in the dtype of the statistics."""
    voxels = tuple(range(2, t.dim()))
    return t.sum(voxels, dtype=mean.dtype) if voxels else t.to(mean.dtype)


def _means(rows: Tensor, x: Tensor, num_groups: int, averaged: Averaged) -> Tensor:
    """Of each row of [N, B, C]: sum over a group's channels, divided by its elements, [N, B, C]."""
    m = x.numel() // (x.shape[0] * num_groups)
    if num_groups == x.shape[1]:
        return averaged(rows / m)
    grouped = rows.view(len(rows), len(x), num_groups, -1)
    return averaged(grouped.sum(3, keepdim=True) / m).expand_as(grouped).flatten(2)


def _sums(t: Tensor, centred: Tensor, mu: Tensor | None, r: Tensor) -> Tensor:
    """[2, B, C]: sums of t and of t xh over the voxels of a channel."""
    total = _sum(t, r)
    with_xh = _less(_sum(t * centred, r), total, mu)
    return torch.stack([total, with_xh * r])


def _like(sums: Tensor, parameter: Tensor | None) -> Tensor | None:
    """Channel sums [B, C] in the shape of the parameter they belong to."""
    if parameter is None:
        return None
    return (sums if parameter.dim() == 2 else sums.sum(0)).to(parameter.dtype)
