"""The compiled kernels of `norm_act`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import (
    empty_gradient,
    empty_stacked,
    empty_statistics,
    loaded,
)

__all__ = [
    "DTYPES",
    "SERVES",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
    "supports",
]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)
supports = partial(extension.unfit, "norm_act", "cpu", DTYPES)


def norm_act_fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C] of any of the dtypes; None is 1
    bias: Tensor | None,  # likewise; None is 0
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # y like x; mean and rstd [B, G], NaN where nothing is in x
    """Group normalisation, affine map and LeakyReLU; two reads and one write of x."""
    y = torch.empty_like(x)
    mean, rstd = empty_statistics(x, num_groups)
    settings = (num_groups, eps, negative_slope, torch.get_num_threads())
    loaded().norm_act_fwd(x, weight, bias, *settings, y, mean, rstd)
    return y, mean, rstd


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> Tensor:
    """Mean and (variance + eps)^-1/2 of every group, [2, B, G], as `norm_act_fwd`; one read."""
    both = empty_stacked(x, num_groups)
    loaded().norm_act_statistics(x, num_groups, eps, torch.get_num_threads(), *both)
    return both


def norm_act_apply(
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> Tensor:  # like x
    """The y of `norm_act_fwd`, from statistics already known; one read and one write of x."""
    y = torch.empty_like(x)
    settings = (num_groups, negative_slope, torch.get_num_threads())
    loaded().norm_act_apply(x, mean, rstd, weight, bias, *settings, y)
    return y


def norm_act_bwd(
    g: Tensor,  # [B, C, ...] gradient of y
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # d_x; d_weight and d_bias, None beside None
    """First derivative of `norm_act_fwd`; two reads of g and x, one write of x."""
    d_x, d_weight, d_bias = torch.empty_like(x), empty_gradient(weight), empty_gradient(bias)
    settings = (num_groups, negative_slope, torch.get_num_threads())
    loaded().norm_act_bwd(g, x, mean, rstd, weight, bias, *settings, d_x, d_weight, d_bias)
    return d_x, d_weight, d_bias


def norm_act_bwd_bwd(
    gg_x: Tensor | None,  # [B, C, ...] gradient of d_x; None is zero, as of the next two
    gg_weight: Tensor | None,  # like weight, gradient of d_weight
    gg_bias: Tensor | None,  # like bias, gradient of d_bias
    g: Tensor,  # [B, C, ...]
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor | None]:  # d_g and d_x like x; d_weight, None beside None
    """Derivative of `norm_act_bwd`, whose bias has none; two reads of three volumes, two writes."""
    d_g, d_x, d_weight = torch.empty_like(x), torch.empty_like(x), empty_gradient(weight)
    tensors = (gg_x, gg_weight, gg_bias, g, x, mean, rstd, weight, bias)
    settings = (num_groups, negative_slope, torch.get_num_threads())
    loaded().norm_act_bwd_bwd(*tensors, *settings, d_g, d_x, d_weight)
    return d_g, d_x, d_weight
