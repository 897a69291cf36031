"""The CUDA kernels of the penalty on slopes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cuda import device, launch
from fastgan.ops.implementations.extension import empty_statistics

__all__ = [
    "DTYPES",
    "SERVES",
    "slope_penalty_bwd",
    "slope_penalty_fwd",
    "slope_penalty_mix",
    "supports",
]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)
supports = partial(device.unfit, "slope_penalty", DTYPES)


def slope_penalty_fwd(slope: Tensor, target: float, one_sided: bool) -> tuple[Tensor, Tensor]:
    """As `reference.slope_penalty.slope_penalty_fwd`, in two kernels."""
    norms, _ = empty_statistics(slope, 1)
    value, norms = norms.new_empty(()), norms.view(-1)
    memory = launch.scratch(launch.kernels().slope_penalty_workspace(slope), slope)
    settings = (target, one_sided, launch.stream(slope))
    launch.run("slope_penalty_fwd", slope, *settings, memory, value, norms)
    return value, norms


def slope_penalty_bwd(
    g: Tensor, slope: Tensor, norms: Tensor, target: float, one_sided: bool
) -> Tensor:
    """As `reference.slope_penalty.slope_penalty_bwd`, in one kernel."""
    d_slope = torch.empty_like(slope)
    settings = (target, one_sided, launch.stream(slope))
    launch.run("slope_penalty_bwd", g.contiguous(), slope, norms, *settings, d_slope)
    return d_slope


def slope_penalty_mix(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """As `reference.slope_penalty.slope_penalty_mix`, in one kernel."""
    x = torch.empty_like(real)
    launch.run("slope_penalty_mix", real, fake, share.contiguous(), launch.stream(real), x)
    return x
