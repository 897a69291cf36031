"""Bias and LeakyReLU in one operator that keeps one bit an element.

The next convolution keeps the output anyway, whose sign would do; but a gradient penalty without
norm has no use for that volume once the slope is known, and with the bits it can go.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.casts import cast
from fastgan.ops.checks import (
    dense,
    floating,
    memory_format,
    require,
    require_tensors,
    same_place,
)
from fastgan.ops.implementations import dispatch
from fastgan.ops.registration import Grads, operator, wanted
from fastgan.reference import bias_act as reference

__all__ = ["bias_act"]


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
    Cost: 2 B C S flops; reads x and writes y, backward reads g and writes d_x; keeps B C S / 8
        bytes, B C S where PyTorch's own kernels run.

    >>> bias_act(torch.tensor([[1.0, -3.0]]), torch.tensor([1.0, 1.0]))
    tensor([[ 2.0000, -0.4000]])
    """
    op = "bias_act"
    require_tensors(op, x=x)
    require(x.dim() >= 2, op, "x must be [B, C, ...]", list(x.shape))
    floating(op, "x", x)
    require(negative_slope >= 0, op, "negative_slope must be >= 0", negative_slope)
    if bias is not None:
        require_tensors(op, bias=bias)
        require(bias.shape == x.shape[1:2], op, "bias must be [C]", list(bias.shape))
        same_place(op, "bias", bias, x, master=True)
        bias = cast(bias, x.dtype)
    forward = bias_act_masked_fwd if _by_mask(x) else bias_act_fwd
    both: tuple[Tensor, Tensor] = forward(x, bias, float(negative_slope))
    return both[0]


def _by_mask(x: Tensor) -> bool:
    """Whether PyTorch's own kernels run: those would take two more launches for bits each way.

    A compiled program may run with other kernels than it was traced with, so it has bits.
    """
    return not torch.compiler.is_compiling() and dispatch.choose("bias_act", x) == "reference"


def _fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    x = dense(x)
    bias = None if bias is None else bias.contiguous()
    both: tuple[Tensor, Tensor] = dispatch.module("bias_act", x).bias_act_fwd(
        x, bias, negative_slope
    )
    return both


def _masked_fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    return reference.bias_act_masked_fwd(dense(x), bias, negative_slope)


def _fwd_fake(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty((x.numel() + 7) // 8, dtype=torch.uint8)


def _masked_fwd_fake(
    x: Tensor, bias: Tensor | None, negative_slope: float
) -> tuple[Tensor, Tensor]:
    y = _like(x)
    return y, torch.empty_like(y, dtype=torch.bool)


def _fwd_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _, ctx.negative_slope = inputs
    _, bits = output
    ctx.last = memory_format(x) == torch.channels_last_3d
    ctx.mark_non_differentiable(bits)
    ctx.save_for_backward(bits)


def _fwd_backward(ctx: Any, g: Tensor, _: None) -> Grads:
    (bits,) = ctx.saved_tensors
    d_x = leaky(g, bits, ctx.last, ctx.negative_slope)
    d_bias = d_x.sum((0, *range(2, d_x.dim()))) if wanted(ctx, 1) else None
    return d_x, d_bias, None


def _form(last: bool) -> torch.memory_format:
    return torch.channels_last_3d if last else torch.contiguous_format


def _leaky(g: Tensor, bits: Tensor, last: bool, negative_slope: float) -> Tensor:
    g = g.contiguous(memory_format=_form(last))
    if bits.dtype == torch.bool:
        return reference.bias_act_masked_bwd(g, bits, negative_slope)
    d_x: Tensor = dispatch.module("bias_act", g).bias_act_bwd(g, bits, negative_slope)
    return d_x


def _leaky_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, bits, ctx.last, ctx.negative_slope = inputs
    ctx.save_for_backward(bits)


def _leaky_backward(ctx: Any, v: Tensor) -> Grads:
    return leaky(v, *ctx.saved_tensors, ctx.last, ctx.negative_slope), None, None, None


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


bias_act_fwd = operator(
    "bias_act_fwd(Tensor x, Tensor? bias, float negative_slope) -> (Tensor y, Tensor bits)",
    kernel=_fwd,
    fake=_fwd_fake,
    setup_context=_fwd_setup,
    backward=_fwd_backward,
)
bias_act_masked_fwd = operator(
    "bias_act_masked_fwd(Tensor x, Tensor? bias, float negative_slope) -> (Tensor y, Tensor mask)",
    kernel=_masked_fwd,
    fake=_masked_fwd_fake,
    setup_context=_fwd_setup,
    backward=_fwd_backward,
)
leaky = operator(
    "leaky(Tensor g, Tensor bits, bool last, float negative_slope) -> Tensor",
    kernel=_leaky,
    fake=lambda g, bits, last, negative_slope: torch.empty_like(g, memory_format=_form(last)),
    setup_context=_leaky_setup,
    backward=_leaky_backward,
)
