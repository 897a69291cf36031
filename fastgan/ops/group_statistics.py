"""Mean and reciprocal standard deviation of groups of channels, in one pass over the volume."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.checks import accumulator, check_groups, dense, floating, memory_format, require
from fastgan.ops.implementations import dispatch
from fastgan.ops.registration import Grads, operator

__all__ = ["group_statistics"]


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

    Derivatives: every order; the backward is plain torch operations on z and the result.
    Deterministic: yes, independent of the number of threads.
    Cost: 4 B C S flops, z read once; keeps z.

    >>> group_statistics(torch.tensor([[[1.0, 3.0]]]), num_groups=1, eps=1e-12)
    tensor([[[2., 1.]]])
    """
    op = "group_statistics"
    require(z.dim() >= 2, op, "z must be [B, C, ...]", list(z.shape))
    floating(op, "z", z)
    check_groups(op, z, num_groups, eps)
    both: Tensor = statistics_of_groups(z, num_groups, float(eps))
    return both


def _statistics(z: Tensor, num_groups: int, eps: float) -> Tensor:  # [B, G, 2]
    if z.numel() == 0:
        return _fake(z, num_groups, eps).zero_()
    z = dense(z)
    both: Tensor = dispatch.module("norm_act", z).norm_act_statistics(z, num_groups, eps)
    # All means, then all rstd, which is how they are read.
    return both.movedim(0, -1)


def _fake(z: Tensor, num_groups: int, eps: float) -> Tensor:
    return z.new_empty((2, z.shape[0], num_groups), dtype=accumulator(z)).movedim(0, -1)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx: Any, g: Tensor) -> Grads:
    z, statistics = ctx.saved_tensors
    channels = z.shape[1] // statistics.shape[1]
    m = z.shape[2:].numel() * channels

    def spread(t: Tensor) -> Tensor:  # [B, G] -> [B, C, 1, ...]
        return t.repeat_interleave(channels, 1).reshape(*z.shape[:2], *(1,) * (z.dim() - 2))

    mean, rstd = statistics.unbind(-1)
    g_mean, g_rstd = (g / m).unbind(-1)
    centred = z.to(g.dtype) - spread(mean)
    # Zero but for the rounding of mean, which rstd^3 would blow up.
    left = centred.reshape(*z.shape[:2], -1).mean(2).reshape(*mean.shape, channels).mean(2)
    d_z = torch.addcmul(spread(g_mean), spread(-g_rstd * rstd**3), centred - spread(left))
    return d_z.to(z.dtype).contiguous(memory_format=memory_format(z)), None, None


statistics_of_groups = operator(
    "group_statistics(Tensor z, SymInt num_groups, float eps) -> Tensor",
    kernel=_statistics,
    fake=_fake,
    setup_context=_setup,
    backward=_backward,
)
