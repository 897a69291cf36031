"""The Triton kernels of `norm_act` on tensors; plain functions without derivatives."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastgan.ops.implementations.extension import FLOATING, named
from fastgan.ops.implementations.triton import runtime

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

_forward: Any = None
_backward: Any = None
_second: Any = None
if runtime.import_error is None:
    from fastgan.kernels import norm_act as _forward  # type: ignore[no-redef]
    from fastgan.kernels import norm_act_bwd as _backward  # type: ignore[no-redef]
    from fastgan.kernels import norm_act_bwd_bwd as _second  # type: ignore[no-redef]

DTYPES = FLOATING
SERVES = named(DTYPES)
# The second and third dimension of a grid, which count channels and samples.
_MOST_PROGRAMS = 65535
# A merge holds the channels of a group at once.
_MOST_CHANNELS = 4096


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    if (reason := runtime.unfit("norm_act", x, DTYPES)) is not None:
        return reason
    if x.shape[0] > _MOST_PROGRAMS or x.shape[1] > _MOST_CHANNELS:
        return "norm_act has Triton kernels for at most 65,535 samples of 4,096 channels"
    return None


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and rstd of every group, as `cpu.norm_act.norm_act_statistics`."""
    both: tuple[Tensor, Tensor] = _forward.norm_act_statistics(x, num_groups, eps)
    return both


def norm_act_apply(
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> Tensor:
    """The value from statistics already known, as `cpu.norm_act.norm_act_apply`."""
    y: Tensor = _forward.norm_act_apply(x, mean, rstd, weight, bias, num_groups, negative_slope)
    return y


def norm_act_fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and rstd, as `cpu.norm_act.norm_act_fwd`."""
    all_three: tuple[Tensor, Tensor, Tensor] = _forward.norm_act_fwd(
        x, weight, bias, num_groups, eps, negative_slope
    )
    return all_three


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
    """First derivative, as `cpu.norm_act.norm_act_bwd`."""
    grads: tuple[Tensor, Tensor | None, Tensor | None] = _backward.norm_act_bwd(
        g, x, mean, rstd, weight, bias, num_groups, negative_slope
    )
    return grads


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
    """Second derivative, as `cpu.norm_act.norm_act_bwd_bwd`."""
    volumes = gg_x, gg_weight, gg_bias, g, x
    grads: tuple[Tensor, Tensor, Tensor | None] = _second.norm_act_bwd_bwd(
        *volumes, mean, rstd, weight, bias, num_groups, negative_slope
    )
    return grads
