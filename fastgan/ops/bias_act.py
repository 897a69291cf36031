"""Bias and LeakyReLU in one operator that keeps nothing of its own.

The sign of the output is the sign before the slope, and the next convolution saves that output
anyway; so the derivative reads it instead of a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.ops.checks import floating, memory_format, require, same_place
from fastgan.ops.registration import Grads, operator, wanted

__all__ = ["bias_act"]

_aten: Any = torch.ops.aten


def bias_act(x: Tensor, bias: Tensor | None = None, *, negative_slope: float = 0.2) -> Tensor:
    """LeakyReLU(x + bias).

    Args:
        x: [B, C, ...] floating; [B, C, D, H, W] for volumes.
        bias: [C] in the dtype of x, or float32 beside a half-width x; None: 0.
        negative_slope: slope below zero, >= 0; 1 is no activation, 0 is ReLU.

    Returns:
        Shape, dtype and memory format of x.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: every order; the backward is linear in its gradient and its own derivative. In x
        the second derivative is zero almost everywhere: None, never a tensor of zeros.
    Deterministic: yes.
    Cost: 2 B C S flops; reads x and writes y, backward reads g and y and writes d_x.

    >>> bias_act(torch.tensor([[1.0, -3.0]]), torch.tensor([1.0, 1.0]))
    tensor([[ 2.0000, -0.4000]])
    """
    op = "bias_act"
    require(x.dim() >= 2, op, "x must be [B, C, ...]", list(x.shape))
    floating(op, "x", x)
    # Below zero the output's sign would no longer tell the side.
    require(negative_slope >= 0, op, "negative_slope must be >= 0", negative_slope)
    if bias is not None:
        require(bias.shape == x.shape[1:2], op, "bias must be [C]", list(bias.shape))
        same_place(op, "bias", bias, x, master=True)
        bias = bias.to(x.dtype)
    y: Tensor = bias_act_fwd(x, bias, float(negative_slope))
    return y


def _fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    z = x if bias is None else x + bias.view(shape)
    y = functional.leaky_relu(z, negative_slope, inplace=bias is not None)
    return y.contiguous(memory_format=memory_format(x))


def _fwd_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.negative_slope = inputs[2]
    ctx.save_for_backward(output)


def _fwd_backward(ctx: Any, g: Tensor) -> Grads:
    (y,) = ctx.saved_tensors
    d_x = leaky(g, y, ctx.negative_slope)
    d_bias = d_x.sum((0, *range(2, d_x.dim()))) if wanted(ctx, 1) else None
    return d_x, d_bias, None


def _leaky(g: Tensor, y: Tensor, negative_slope: float) -> Tensor:
    # The last argument: y is the activation's result, not its input.
    d_x: Tensor = _aten.leaky_relu_backward(g, y, negative_slope, True)
    return d_x.contiguous(memory_format=memory_format(y))


def _leaky_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, y, ctx.negative_slope = inputs
    ctx.save_for_backward(y)


def _leaky_backward(ctx: Any, v: Tensor) -> Grads:
    return leaky(v, *ctx.saved_tensors, ctx.negative_slope), None, None


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


bias_act_fwd = operator(
    "bias_act_fwd(Tensor x, Tensor? bias, float negative_slope) -> Tensor",
    kernel=_fwd,
    fake=lambda x, bias, negative_slope: _like(x),
    setup_context=_fwd_setup,
    backward=_fwd_backward,
)
leaky = operator(
    "leaky(Tensor g, Tensor y, float negative_slope) -> Tensor",
    kernel=_leaky,
    fake=lambda g, y, negative_slope: _like(y),
    setup_context=_leaky_setup,
    backward=_leaky_backward,
)
