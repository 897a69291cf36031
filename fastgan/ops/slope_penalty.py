"""The penalty on the slopes of a critic, and the mixes at which they are taken, as operators.

`fastgan.ops.gradient_penalty` puts the critic between the two. On a CPU they are PyTorch's own
functions; on a GPU two kernels and one.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.checks import accumulator, dense, memory_format
from fastgan.ops.implementations import dispatch
from fastgan.ops.registration import Grads, operator

__all__ = ["slope_penalty_bwd", "slope_penalty_fwd", "slope_penalty_mix"]


def _passes(x: Tensor) -> ModuleType:
    return dispatch.module("slope_penalty", x)


def _of_samples(values: Tensor, x: Tensor) -> Tensor:
    """[B] beside [B, ...]."""
    return values.view(-1, *(1,) * (x.dim() - 1))


def _fwd(slope: Tensor, target: float, one_sided: bool) -> tuple[Tensor, Tensor]:
    both: tuple[Tensor, Tensor] = _passes(slope).slope_penalty_fwd(dense(slope), target, one_sided)
    return both


def _fwd_fake(slope: Tensor, target: float, one_sided: bool) -> tuple[Tensor, Tensor]:
    norms = slope.new_empty(slope.shape[:1], dtype=accumulator(slope))
    return norms.new_empty(()), norms


def _fwd_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    slope, ctx.target, ctx.one_sided = inputs
    _, norms = output
    # Its dependence on the slope is inside the derivative of the value.
    ctx.mark_non_differentiable(norms)
    ctx.save_for_backward(slope, norms)


def _fwd_backward(ctx: Any, g: Tensor, _: None) -> Grads:
    return slope_penalty_bwd(g, *ctx.saved_tensors, ctx.target, ctx.one_sided), None, None


def _bwd(g: Tensor, slope: Tensor, norms: Tensor, target: float, one_sided: bool) -> Tensor:
    d_slope: Tensor = _passes(slope).slope_penalty_bwd(g, dense(slope), norms, target, one_sided)
    return d_slope.contiguous(memory_format=memory_format(slope))


def _bwd_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    g, slope, _, ctx.target, ctx.one_sided = inputs
    ctx.save_for_backward(g, slope)


def _bwd_backward(ctx: Any, v: Tensor) -> Grads:
    # d_slope = g f(n) slope with f = (2 / B) (1 - target / n): torch functions, so every order.
    g, slope = ctx.saved_tensors
    n = torch.linalg.vector_norm(slope, dim=tuple(range(1, slope.dim())), dtype=g.dtype)
    active = n > ctx.target if ctx.one_sided else n > 0
    n = torch.where(active & (n > 0), n, 1)
    share = active.to(g.dtype) * (2 / len(n))
    f, f_of_n = share * (1 - ctx.target / n), share * ctx.target / n**2
    inner = (slope * v).flatten(1).sum(1, dtype=g.dtype)
    along, across = _of_samples(g * f, v), _of_samples(g * f_of_n * inner / n, v)
    # norms count as a function of the slope: their share is in the second term.
    return (f * inner).sum(), (along * v + across * slope).to(slope.dtype), None, None, None


def _mix(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    real = dense(real)
    fake = fake.contiguous(memory_format=memory_format(real))
    x: Tensor = _passes(real).slope_penalty_mix(real, fake, share)
    return x


def _mix_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _mix_backward(ctx: Any, g: Tensor) -> Grads:
    real, fake, share = ctx.saved_tensors
    d_real = (g * _of_samples(share, g)).to(real.dtype)
    return d_real, g - d_real, (g * (real - fake)).flatten(1).sum(1, dtype=share.dtype)


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


slope_penalty_fwd = operator(
    "slope_penalty_fwd(Tensor slope, float target, bool one_sided) -> (Tensor value, Tensor norms)",
    kernel=_fwd,
    fake=_fwd_fake,
    setup_context=_fwd_setup,
    backward=_fwd_backward,
)
slope_penalty_bwd = operator(
    "slope_penalty_bwd(Tensor g, Tensor slope, Tensor norms, float target, bool one_sided)"
    " -> Tensor",
    kernel=_bwd,
    fake=lambda g, slope, *_: _like(slope),
    setup_context=_bwd_setup,
    backward=_bwd_backward,
)
slope_penalty_mix = operator(
    "slope_penalty_mix(Tensor real, Tensor fake, Tensor share) -> Tensor",
    kernel=_mix,
    fake=_like,
    setup_context=_mix_setup,
    backward=_mix_backward,
)
