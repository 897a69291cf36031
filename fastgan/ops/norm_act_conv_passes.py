"""The operators of `norm_act_conv`: its value, and its weight gradient, which are one family.

    norm_act_conv_fprop(z, conv_weight, ...) -> y          conv of a = act(norm(z))
        of conv_weight: norm_act_conv_wgrad;  of z, weight, bias: the convolution's input gradient
        d_a, then norm_act_bwd
    norm_act_conv_wgrad(g, z, ...) -> d_conv_weight        computes a again
        of g: norm_act_conv_fprop;  of z, weight, bias: d_a as above, with the gradient of
        d_conv_weight for a kernel

`size` is empty for a convolution; a transposed one has its output's D, H, W there.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastgan.ops import conv3d_passes as conv
from fastgan.ops.conv3d_channels import kernels_for
from fastgan.ops.norm_act import apply_kernel, norm_act_bwd
from fastgan.ops.registration import Grads, operator, wanted

__all__ = ["norm_act_conv_fprop", "norm_act_conv_wgrad"]

_UNDILATED = ([1, 1, 1], 1)


def _fprop(
    z: Tensor,  # [B, C, D, H, W]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    conv_weight: Tensor,  # [K, C, kD, kH, kW], or [C, K, kD, kH, kW] transposed
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    conv_bias: Tensor | None,  # [K]
    num_groups: int,
    negative_slope: float,
    size: list[int],  # D', H', W', or empty
    stride: list[int],
    padding: list[int],
) -> Tensor:  # [B, K, D', H', W']
    settings = (mean, rstd, weight, bias, num_groups, negative_slope)
    x = (len(z), conv_weight.shape[1], *size) if size else z.shape
    geometry = (stride, padding, *_UNDILATED)
    if triton := kernels_for("norm_act_conv", z, x, conv_weight.shape, *geometry):
        norm, tensors = triton.norm_of(*settings), (z, conv_weight, conv_bias)
        if not size:
            return triton.fprop(*tensors, stride, padding, norm)  # type: ignore[no-any-return]
        return triton.dgrad(*tensors, size, stride, padding, norm)  # type: ignore[no-any-return]
    a = apply_kernel(z, *settings)
    if not size:
        return conv.fprop(a, conv_weight, conv_bias, stride, padding, *_UNDILATED)
    y = conv.dgrad(a, conv_weight, size, stride, padding, *_UNDILATED)
    return y if conv_bias is None else y.add_(conv_bias.view(1, -1, 1, 1, 1))


def _fprop_fake(
    z: Tensor,
    mean: Tensor,
    rstd: Tensor,
    conv_weight: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    conv_bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
    size: list[int],
    stride: list[int],
    padding: list[int],
) -> Tensor:
    if not size:
        return conv.fprop_fake(z, conv_weight, conv_bias, stride, padding, *_UNDILATED)
    return conv.dgrad_fake(z, conv_weight, size, stride, padding, *_UNDILATED)


def _fprop_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, _, ctx.num_groups, ctx.negative_slope, size, ctx.stride, ctx.padding = inputs
    ctx.transposed = bool(size)
    ctx.save_for_backward(*tensors)


def _fprop_backward(ctx: Any, g: Tensor) -> Grads:
    z, mean, rstd, conv_weight, weight, bias = ctx.saved_tensors
    d_z, d_weight, d_bias = _through_norm(ctx, g, conv_weight, ctx.saved_tensors, (0, 4, 5))
    d_conv = None
    if wanted(ctx, 3):
        kernel, geometry = conv_weight.shape[2:], (ctx.transposed, ctx.stride, ctx.padding)
        settings = (ctx.num_groups, ctx.negative_slope, kernel, *geometry)
        d_conv = norm_act_conv_wgrad(g, z, mean, rstd, weight, bias, *settings)
    d_conv_bias = g.sum((0, 2, 3, 4)) if wanted(ctx, 6) else None
    return d_z, None, None, d_conv, d_weight, d_bias, d_conv_bias, *(None,) * 5


def _through_norm(
    ctx: Any, g: Tensor, kernel: Tensor, saved: tuple[Tensor, ...], places: tuple[int, int, int]
) -> Grads:
    """Gradients of z, weight and bias, the arguments at `places`, where g is that of the output."""
    wants = [wanted(ctx, i) for i in places]
    if not any(wants):
        return None, None, None
    z, mean, rstd, _, weight, bias = saved
    geometry = (ctx.stride, ctx.padding, *_UNDILATED)
    if ctx.transposed:
        d_a = conv.conv_fprop(g, kernel, None, *geometry)
    else:
        d_a = conv.conv_dgrad(g, kernel, z.shape[2:], *geometry)
    settings = ctx.num_groups, ctx.negative_slope
    grads = norm_act_bwd(d_a, z, mean, rstd, weight, bias, *settings)
    return tuple(d if want else None for d, want in zip(grads, wants, strict=True))


def _wgrad(
    g: Tensor,  # [B, K, D', H', W']
    z: Tensor,  # [B, C, D, H, W]
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
    kernel: list[int],  # kD, kH, kW
    transposed: bool,
    stride: list[int],
    padding: list[int],
) -> Tensor:  # like conv_weight
    settings = (mean, rstd, weight, bias, num_groups, negative_slope)
    outer, inner = (z, g) if transposed else (g, z)
    shape, geometry = (outer.shape[1], inner.shape[1], *kernel), (stride, padding, *_UNDILATED)
    if triton := kernels_for("norm_act_conv", inner, inner.shape, shape, *geometry):
        norm, tensors = triton.norm_of(*settings), (outer, inner, kernel)
        return triton.wgrad(*tensors, stride, padding, norm, transposed)  # type: ignore[no-any-return]
    a = apply_kernel(z, *settings)
    outer, inner = (a, g) if transposed else (g, a)
    return conv.wgrad(outer, inner, kernel, stride, padding, *_UNDILATED)


def _wgrad_fake(
    g: Tensor,
    z: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
    kernel: list[int],
    transposed: bool,
    stride: list[int],
    padding: list[int],
) -> Tensor:
    outer, inner = (z, g) if transposed else (g, z)
    return conv.wgrad_fake(outer, inner, kernel, stride, padding, *_UNDILATED)


def _wgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.num_groups, ctx.negative_slope, _, ctx.transposed, ctx.stride, ctx.padding = (
        inputs
    )
    ctx.save_for_backward(*tensors)


def _wgrad_backward(ctx: Any, v: Tensor) -> Grads:
    g, z, mean, rstd, weight, bias = ctx.saved_tensors
    saved = (z, mean, rstd, v, weight, bias)
    d_g = None
    if wanted(ctx, 0):
        size = g.shape[2:] if ctx.transposed else []
        settings = (ctx.num_groups, ctx.negative_slope, size, ctx.stride, ctx.padding)
        d_g = norm_act_conv_fprop(*saved, None, *settings)
    d_z, d_weight, d_bias = _through_norm(ctx, g, v, saved, (1, 4, 5))
    return d_g, d_z, None, None, d_weight, d_bias, *(None,) * 6


_SETTINGS = "SymInt num_groups, float negative_slope"

norm_act_conv_fprop = operator(
    "norm_act_conv_fprop(Tensor z, Tensor mean, Tensor rstd, Tensor conv_weight, Tensor? weight,"
    f" Tensor? bias, Tensor? conv_bias, {_SETTINGS}, SymInt[] size, SymInt[] stride,"
    " SymInt[] padding) -> Tensor",
    kernel=_fprop,
    fake=_fprop_fake,
    setup_context=_fprop_setup,
    backward=_fprop_backward,
)
norm_act_conv_wgrad = operator(
    "norm_act_conv_wgrad(Tensor g, Tensor z, Tensor mean, Tensor rstd, Tensor? weight,"
    f" Tensor? bias, {_SETTINGS}, SymInt[] kernel, bool transposed, SymInt[] stride,"
    " SymInt[] padding) -> Tensor",
    kernel=_wgrad,
    fake=_wgrad_fake,
    setup_context=_wgrad_setup,
    backward=_wgrad_backward,
)
