"""The CUDA kernels of `norm_act`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cuda import device, launch
from fastgan.ops.implementations.extension import (
    empty_gradient,
    empty_stacked,
    empty_statistics,
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
supports = partial(device.unfit, "norm_act", DTYPES)


def _zeros(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.zero_()


def _norm_act_scratch(name: str, x: Tensor, num_groups: int) -> Tensor:
    return launch.scratch(launch.kernels().norm_act_workspace(name, x, num_groups), x)


def norm_act_fwd(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `cpu.norm_act.norm_act_fwd`."""
    y = torch.empty_like(x)
    mean, rstd = empty_statistics(x, num_groups)
    name = "norm_act_fwd"
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, eps, negative_slope, launch.stream(x), memory)
    launch.run(name, x, weight, bias, *settings, y, mean, rstd)
    return y, mean, rstd


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> Tensor:
    """As `cpu.norm_act.norm_act_statistics`."""
    both = empty_stacked(x, num_groups)
    name = "norm_act_statistics"
    memory = _norm_act_scratch(name, x, num_groups)
    launch.run(name, x, num_groups, eps, launch.stream(x), memory, *both)
    return both


def norm_act_apply(
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> Tensor:
    """As `cpu.norm_act.norm_act_apply`."""
    y = torch.empty_like(x)
    settings = (num_groups, negative_slope, launch.stream(x))
    launch.run("norm_act_apply", x, mean, rstd, weight, bias, *settings, y)
    return y


def norm_act_bwd(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `cpu.norm_act.norm_act_bwd`."""
    d_x, d_weight, d_bias = torch.empty_like(x), empty_gradient(weight), empty_gradient(bias)
    if x.numel() == 0:
        return d_x, _zeros(d_weight), _zeros(d_bias)
    name = "norm_act_bwd"
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, negative_slope, launch.stream(x), memory)
    launch.run(name, g, x, mean, rstd, weight, bias, *settings, d_x, d_weight, d_bias)
    return d_x, d_weight, d_bias


def norm_act_bwd_bwd(
    gg_x: Tensor | None,
    gg_weight: Tensor | None,
    gg_bias: Tensor | None,
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `cpu.norm_act.norm_act_bwd_bwd`."""
    d_g, d_x, d_weight = torch.empty_like(x), torch.empty_like(x), empty_gradient(weight)
    if x.numel() == 0:
        return d_g, d_x, _zeros(d_weight)
    name = "norm_act_bwd_bwd"
    memory = _norm_act_scratch(name, x, num_groups)
    settings = (num_groups, negative_slope, launch.stream(x), memory)
    tensors = (gg_x, gg_weight, gg_bias, g, x, mean, rstd, weight, bias)
    launch.run(name, *tensors, *settings, d_g, d_x, d_weight)
    return d_g, d_x, d_weight
