"""Group normalisation, affine and LeakyReLU in one operator, twice differentiable.

Three operators: the value, its derivative and the derivative of that one. Which implementation
computes each is decided when it runs (`implementations.dispatch`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops.checks import (
    accumulator,
    check_affine,
    check_groups,
    dense,
    floating,
    memory_format,
    require,
    require_tensors,
)
from fastgan.ops.implementations import dispatch
from fastgan.ops.registration import Grads, operator, wanted

__all__ = ["norm_act"]


def norm_act(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    num_groups: int,
    eps: float = 1e-5,
    negative_slope: float = 0.2,
    statistics: Tensor | None = None,
) -> Tensor:
    """LeakyReLU(weight (x - mean) (var + eps)^-1/2 + bias), mean and var over groups of channels.

    Args:
        x: [B, C, ...] floating; [B, C, D, H, W] for volumes.
        weight: [C], or [B, C] for an affine of each sample's own; None: 1.
        bias: [C] or [B, C]; None: 0. Both in the dtype of x, or float32 beside a half-width x.
        num_groups: G, a divisor of C. C is instance norm, 1 is layer norm over channels and space.
        eps: added to the (biased) variance, > 0.
        negative_slope: slope below zero; 1 is no activation, 0 is ReLU.
        statistics: [B, G, 2], mean and rstd of x from `group_statistics` or `norm_act_conv`; None:
            computed here. They count as functions of x: its gradient holds their share.

    Returns:
        Shape, dtype and memory format of x.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit; a group of one element.

    Derivatives: two orders: the backward is an operator with an explicit second derivative, whose
        own derivative raises. The bias has none of second order (zero almost everywhere: None).
    Deterministic: yes, independent of the number of threads.
    Cost: about 10 B C S flops; bytes per element, of width w: 2 w forward (plus one more read
        where a group exceeds the cache), 3 w backward, 5 w for the second derivative.
    Source: Wu and He, Group Normalization, 2018, equation 7.

    >>> x = torch.tensor([[[1.0, 3.0], [2.0, 6.0]]])
    >>> norm_act(x, num_groups=2, eps=1e-12)
    tensor([[[-0.2000,  1.0000],
             [-0.2000,  1.0000]]])
    """
    op = "norm_act"
    require_tensors(op, x=x)
    require(x.dim() >= 2, op, "x must be [B, C, ...]", list(x.shape))
    floating(op, "x", x)
    check_groups(op, x, num_groups, eps)
    check_affine(op, x, weight, bias)
    if statistics is not None:
        mean, rstd = split_statistics(op, x, statistics, num_groups)
        y: Tensor = norm_act_apply(x, mean, rstd, weight, bias, num_groups, float(negative_slope))
        return y
    y, _, _ = norm_act_fwd(x, weight, bias, num_groups, float(eps), float(negative_slope))
    return y


def split_statistics(
    op: str, x: Tensor, statistics: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    """Mean and rstd, both [B, G], of checked statistics [B, G, 2] of x [B, C, ...]."""
    expected = [x.shape[0], num_groups, 2]
    require(
        list(statistics.shape) == expected and statistics.dtype == accumulator(x),
        op,
        f"statistics must be {expected} {accumulator(x)}",
        f"{list(statistics.shape)} {statistics.dtype}",
    )
    # Detached: the graph behind the statistics would keep the volume they were computed from.
    mean, rstd = statistics.detach().movedim(-1, 0).contiguous().unbind()
    return mean, rstd


def _fwd(
    x: Tensor,  # [B, C, ...]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # y like x, mean and rstd [B, G]
    if x.numel() == 0:
        y, mean, rstd = _fwd_fake(x, weight, bias, num_groups, eps, negative_slope)
        return y, mean.zero_(), rstd.zero_()
    x, weight, bias = dense(x), _dense_parameter(weight), _dense_parameter(bias)
    y, mean, rstd = dispatch.module("norm_act", x).norm_act_fwd(
        x, weight, bias, num_groups, eps, negative_slope
    )
    return _in_format_of(y, x), mean, rstd


def _fwd_fake(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty((x.shape[0], num_groups), dtype=accumulator(x))
    return _fresh(x), mean, torch.empty_like(mean)


def _fwd_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, ctx.num_groups, _, ctx.negative_slope = inputs
    _, mean, rstd = output
    # Their dependence on x is inside the derivative of y.
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, mean, rstd, weight, bias)


def _fwd_backward(ctx: Any, g: Tensor, *_: None) -> Grads:
    return *_first_order(ctx, g, (0, 1, 2)), None, None, None


def _first_order(ctx: Any, g: Tensor, places: tuple[int, int, int]) -> Grads:
    """Gradients of x, weight and bias, which are the arguments at `places`."""
    x, mean, rstd, weight, bias = ctx.saved_tensors
    grads = norm_act_bwd(g, x, mean, rstd, weight, bias, ctx.num_groups, ctx.negative_slope)
    # The sums over u come with d_x; dropping them keeps the second derivative from seeing them.
    return tuple(d if wanted(ctx, i) else None for d, i in zip(grads, places, strict=True))


def apply_kernel(
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> Tensor:  # like x
    """Kernel of `norm_act_apply`."""
    if x.numel() == 0:
        return _fresh(x)
    x, weight, bias = dense(x), _dense_parameter(weight), _dense_parameter(bias)
    y: Tensor = dispatch.module("norm_act", x).norm_act_apply(
        x, mean, rstd, weight, bias, num_groups, negative_slope
    )
    return _in_format_of(y, x)


def _apply_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.num_groups, ctx.negative_slope = inputs
    ctx.save_for_backward(*tensors)


def _apply_backward(ctx: Any, g: Tensor) -> Grads:
    d_x, d_weight, d_bias = _first_order(ctx, g, (0, 3, 4))
    return d_x, None, None, d_weight, d_bias, None, None


def _bwd(
    g: Tensor,  # [B, C, ...] gradient of y
    x: Tensor,  # [B, C, ...]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:  # d_x like x, d_weight and d_bias like weight and bias
    if x.numel() == 0:
        d_x, *sums = _bwd_fake(g, x, mean, rstd, weight, bias, num_groups, negative_slope)
        return d_x, sums[0].zero_(), sums[1].zero_()
    g, x = _in_format_of(g, x), dense(x)
    weight, bias = _dense_parameter(weight), _dense_parameter(bias)
    d_x, d_weight, d_bias = dispatch.module("norm_act", x).norm_act_bwd(
        g, x, mean, rstd, weight, bias, num_groups, negative_slope
    )
    return _in_format_of(d_x, x), _present(d_weight, x), _present(d_bias, x)


def _bwd_fake(
    g: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _fresh(x), _fresh_parameter(weight, x), _fresh_parameter(bias, x)


def _bwd_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.num_groups, ctx.negative_slope = inputs
    ctx.save_for_backward(*tensors)


def _bwd_backward(
    ctx: Any, gg_x: Tensor | None, gg_weight: Tensor | None, gg_bias: Tensor | None
) -> Grads:
    *_, weight, bias = ctx.saved_tensors
    # Of outputs that only stand for None, a compiler hands in gradients all the same.
    grads = (gg_x, None if weight is None else gg_weight, None if bias is None else gg_bias)
    d_g, d_x, d_weight = norm_act_bwd_bwd(
        *grads, *ctx.saved_tensors, ctx.num_groups, ctx.negative_slope
    )
    # mean and rstd count as functions of x: their share is in d_x.
    return d_g, d_x, None, None, None if weight is None else d_weight, None, None, None


def _bwd_bwd(
    gg_x: Tensor | None,  # [B, C, ...] gradient of d_x
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
) -> tuple[Tensor, Tensor, Tensor]:  # d_g and d_x like x, d_weight like weight
    if x.numel() == 0:
        return _fresh(x), _fresh(x), _fresh_parameter(weight, x).zero_()
    gg_x, g, x = None if gg_x is None else _in_format_of(gg_x, x), _in_format_of(g, x), dense(x)
    gg_weight, gg_bias = _dense_parameter(gg_weight), _dense_parameter(gg_bias)
    weight, bias = _dense_parameter(weight), _dense_parameter(bias)
    tensors = (gg_x, gg_weight, gg_bias, g, x, mean, rstd, weight, bias)
    d_g, d_x, d_weight = dispatch.module("norm_act", x).norm_act_bwd_bwd(
        *tensors, num_groups, negative_slope
    )
    return _in_format_of(d_g, x), _in_format_of(d_x, x), _present(d_weight, x)


def _bwd_bwd_fake(
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
) -> tuple[Tensor, Tensor, Tensor]:
    return _fresh(x), _fresh(x), _fresh_parameter(weight, x)


def _bwd_bwd_backward(ctx: Any, *_: Tensor | None) -> Grads:
    raise ConfigError("norm_act: third order derivatives are not defined, only two orders are")


def _fresh(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


def _in_format_of(tensor: Tensor, x: Tensor) -> Tensor:
    """`tensor` in the memory format of x; a copy where it has another."""
    return tensor.contiguous(memory_format=memory_format(x))


def _dense_parameter(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.contiguous()


def _fresh_parameter(parameter: Tensor | None, x: Tensor) -> Tensor:
    """In place of the gradient of a parameter; operators cannot return None."""
    if parameter is None:
        return x.new_empty(0)
    return torch.empty_like(parameter, memory_format=torch.contiguous_format)


def _present(gradient: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0) if gradient is None else gradient


_AFFINE = "Tensor? weight, Tensor? bias, SymInt num_groups"
_BWD = f"Tensor g, Tensor x, Tensor mean, Tensor rstd, {_AFFINE}, float negative_slope"

norm_act_fwd = operator(
    f"norm_act_fwd(Tensor x, {_AFFINE}, float eps, float negative_slope)"
    " -> (Tensor y, Tensor mean, Tensor rstd)",
    kernel=_fwd,
    fake=_fwd_fake,
    setup_context=_fwd_setup,
    backward=_fwd_backward,
)
norm_act_apply = operator(
    f"norm_act_apply(Tensor x, Tensor mean, Tensor rstd, {_AFFINE}, float negative_slope)"
    " -> Tensor",
    kernel=apply_kernel,
    fake=lambda x, *_: _fresh(x),
    setup_context=_apply_setup,
    backward=_apply_backward,
)
norm_act_bwd = operator(
    f"norm_act_bwd({_BWD}) -> (Tensor d_x, Tensor d_weight, Tensor d_bias)",
    kernel=_bwd,
    fake=_bwd_fake,
    setup_context=_bwd_setup,
    backward=_bwd_backward,
)
norm_act_bwd_bwd = operator(
    f"norm_act_bwd_bwd(Tensor? gg_x, Tensor? gg_weight, Tensor? gg_bias, {_BWD})"
    " -> (Tensor d_g, Tensor d_x, Tensor d_weight)",
    kernel=_bwd_bwd,
    fake=_bwd_bwd_fake,
    setup_context=lambda ctx, inputs, output: None,
    backward=_bwd_bwd_backward,
)
