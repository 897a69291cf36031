"""The Triton kernels of `norm_act` on tensors; plain functions without derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.native import dense, like, row

__all__ = [
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
_interpreted = False
_import_error: str | None = None
try:
    import triton

    from fastgan.kernels import norm_act as _forward  # type: ignore[no-redef]
    from fastgan.kernels import norm_act_bwd as _backward  # type: ignore[no-redef]
    from fastgan.kernels import norm_act_bwd_bwd as _second  # type: ignore[no-redef]

    _interpreted = bool(triton.knobs.runtime.interpret)
except ImportError as error:
    _import_error = f"Triton cannot be imported: {error}"

_DTYPES = (torch.float32, torch.bfloat16, torch.float64)
# The second and third dimension of a grid, which count channels and samples.
_MOST_PROGRAMS = 65535
# A merge holds the channels of a group at once.
_MOST_CHANNELS = 4096


def supports(op: str, x: Tensor) -> str | None:
    """Why the Triton kernels of `op` cannot take `x`: None when they can.

    Args:
        op: "norm_act".
        x: the operator's main input.
    """
    if _import_error is not None:
        return _import_error
    if x.device.type != ("cpu" if _interpreted else "cuda"):
        instead = "the CPU, by Triton's interpreter" if _interpreted else "GPUs"
        return f"{op} has Triton kernels for {instead}, got {x.device}"
    if x.dtype not in _DTYPES:
        name = str(x.dtype).removeprefix("torch.")
        return f"{op} has Triton kernels for float32, bfloat16 and float64, got {name}"
    if x.layout != torch.strided:
        return f"{op} has Triton kernels for strided tensors, got {x.layout}"
    if x.shape[0] > _MOST_PROGRAMS or x.shape[1] > _MOST_CHANNELS:
        return f"{op} has Triton kernels for at most 65,535 samples of 4,096 channels"
    return None


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and rstd of every group, as `fastgan.ops.native.norm_act_statistics`."""
    both: tuple[Tensor, Tensor] = _forward.norm_act_statistics(dense(x), num_groups, eps)
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
    """The value from statistics already known, as `fastgan.ops.native.norm_act_apply`."""
    statistics = mean.contiguous(), rstd.contiguous()
    y: Tensor = _forward.norm_act_apply(
        dense(x), *statistics, row(weight), row(bias), num_groups, negative_slope
    )
    return y


def norm_act_fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, mean and rstd, as `fastgan.ops.native.norm_act_fwd`."""
    all_three: tuple[Tensor, Tensor, Tensor] = _forward.norm_act_fwd(
        dense(x), row(weight), row(bias), num_groups, eps, negative_slope
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
    """First derivative, as `fastgan.ops.native.norm_act_bwd`."""
    x = dense(x)
    statistics = mean.contiguous(), rstd.contiguous()
    grads: tuple[Tensor, Tensor | None, Tensor | None] = _backward.norm_act_bwd(
        like(g, x), x, *statistics, row(weight), row(bias), num_groups, negative_slope
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
    """Second derivative, as `fastgan.ops.native.norm_act_bwd_bwd`."""
    x = dense(x)
    volumes = None if gg_x is None else like(gg_x, x), row(gg_weight), row(gg_bias), like(g, x), x
    statistics = mean.contiguous(), rstd.contiguous()
    grads: tuple[Tensor, Tensor, Tensor | None] = _second.norm_act_bwd_bwd(
        *volumes, *statistics, row(weight), row(bias), num_groups, negative_slope
    )
    return grads
