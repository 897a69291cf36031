"""Normalisation, affine and LeakyReLU of a slab, by the statistics of the whole volume."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fastgan.errors import ConfigError
from fastgan.ops.checks import dense, memory_format
from fastgan.reference import norm_act as passes
from fastgan.slabs.exchange import Slabs

__all__ = ["norm_act_of_slabs"]


def norm_act_of_slabs(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    slabs: Slabs,
    *,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> Tensor:
    """`ops.norm_act` of volumes of which x is a slab.

    Args:
        x: [B, C, d, H, W] floating.
        weight: [C] or [B, C]; None: 1.
        bias: [C] or [B, C]; None: 0.
        slabs: the parts.
        num_groups: G, a divisor of C.
        eps: added to the (biased) variance, > 0.
        negative_slope: slope below zero.

    Returns:
        Like x.

    Derivatives: two orders, explicit, a third is refused; gradients of weight and bias are the
        share of this slab.
    Deterministic: yes.
    Cost: that of PyTorch's own operators (`reference.norm_act`); one message a pass of 2 to 7 rows
        [B, G], float32 (float64 for float64 x).
    """
    settings = (slabs, num_groups, float(eps), float(negative_slope))
    # Before the function: a copy made inside it would have no part in the second derivative.
    y: Tensor = _NormAct.apply(dense(x), weight, bias, *settings)  # type: ignore[no-untyped-call]
    return y


def _statistics(x: Tensor, slabs: Slabs, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and rstd [B, G] of the whole volume; the parts are of equal size."""
    grouped = x.view(x.shape[0], num_groups, -1, *x.shape[2:])
    wide = grouped if x.dtype in (torch.float32, torch.float64) else grouped.float()
    own = torch.var_mean(wide, tuple(range(2, wide.dim())), correction=0)
    variances, means = torch.stack(slabs.collect(torch.stack(own))).unbind(1)
    mean = means.mean(0)
    # About the mean of the whole, without the cancellation of sums of squares.
    variance = variances.mean(0) + (means - mean).square().mean(0)
    return mean, (variance + eps).rsqrt()


def _mean_over(slabs: Slabs, means: Tensor) -> Tensor:
    return slabs.add(means.clone(memory_format=torch.contiguous_format)) / slabs.count


class _NormAct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        slabs: Slabs,
        num_groups: int,
        eps: float,
        negative_slope: float,
    ) -> Tensor:
        ctx.settings = (slabs, num_groups, negative_slope)
        with torch.autocast(x.device.type, enabled=False):
            mean, rstd = _statistics(x, slabs, num_groups, eps)
            y = passes.norm_act_apply(x, mean, rstd, weight, bias, num_groups, negative_slope)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        g = g.contiguous(memory_format=memory_format(ctx.saved_tensors[0]))
        grads = _NormActBwd.apply(g, *ctx.saved_tensors, *ctx.settings)  # type: ignore[no-untyped-call]
        return *grads, None, None, None, None


class _NormActBwd(Function):
    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        slabs: Slabs,
        num_groups: int,
        negative_slope: float,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.settings = (slabs, num_groups, negative_slope)
        ctx.save_for_backward(g, x, mean, rstd, weight, bias)
        tensors = (g, x, mean, rstd, weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            return passes.norm_act_bwd(
                *tensors, num_groups, negative_slope, partial(_mean_over, slabs)
            )

    @staticmethod
    def backward(
        ctx: Any, gg_x: Tensor | None, gg_weight: Tensor | None, gg_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if gg_x is not None:
            gg_x = gg_x.contiguous(memory_format=memory_format(ctx.saved_tensors[1]))
        gradients = (gg_x, gg_weight, gg_bias, *ctx.saved_tensors, *ctx.settings)
        d_g, d_x, d_weight = _NormActBwdBwd.apply(*gradients)  # type: ignore[no-untyped-call]
        # mean and rstd count as functions of x: their share is in d_x.
        return d_g, d_x, None, None, d_weight, None, None, None, None


class _NormActBwdBwd(Function):
    @staticmethod
    def forward(
        ctx: Any,
        gg_x: Tensor | None,
        gg_weight: Tensor | None,
        gg_bias: Tensor | None,
        g: Tensor,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        slabs: Slabs,
        num_groups: int,
        negative_slope: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        tensors = (gg_x, gg_weight, gg_bias, g, x, mean, rstd, weight, bias)
        with torch.autocast(x.device.type, enabled=False):
            return passes.norm_act_bwd_bwd(
                *tensors, num_groups, negative_slope, partial(_mean_over, slabs)
            )

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[None, ...]:
        raise ConfigError("norm_act: third order derivatives are not defined, only two orders are")
