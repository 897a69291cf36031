"""The three operators of 3D convolution, a closed family, each differentiable into the other two.

PyTorch's double backward computes the weight gradient as a forward convolution whose kernel is a
whole feature map. Here every derivative of any order is one of three true kernels:

    conv_fprop(x, weight) -> y        gradient of the input, given g: conv_dgrad(g, weight)
    conv_dgrad(g, weight) -> d_x      of g: conv_fprop;  of weight: conv_wgrad
    conv_wgrad(g, x) -> d_weight      of g: conv_fprop;  of x: conv_dgrad
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.checks import memory_format
from fastgan.ops.conv3d_channels import kernels_for
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cpu import conv3d as on_cpu
from fastgan.ops.implementations.layout import laid_out
from fastgan.ops.registration import Grads, operator, wanted

__all__ = [
    "conv_dgrad",
    "conv_fprop",
    "conv_wgrad",
    "dgrad",
    "dgrad_fake",
    "emulated",
    "fprop",
    "fprop_fake",
    "output_size",
    "transposed",
    "wgrad",
    "wgrad_fake",
]

_aten: Any = torch.ops.aten
_NO_OUTPUT_PADDING = [0, 0, 0]


def output_size(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """D', H', W' of a convolution."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]


def fprop(
    x: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [K, C / groups, kD, kH, kW]
    bias: Tensor | None,  # [K]
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:  # [B, K, D', H', W']
    """Kernel of `conv_fprop`."""
    if x.numel() == 0:
        return fprop_fake(x, weight, bias, stride, padding, dilation, groups)
    form = memory_format(x)
    bias = None if bias is None else bias.contiguous()
    if single := _single(x, weight.shape, stride, padding, dilation, groups):
        y = fprop_fake(x, weight, bias, stride, padding, dilation, groups)
        found: Tensor = single.single_fprop(
            x.contiguous(), weight.contiguous(), bias, y, stride, padding
        )
        return found
    geometry = (stride, padding, dilation, groups)
    if triton := kernels_for("conv3d_channels", x, x.shape, weight.shape, *geometry):
        found = triton.fprop(x, weight, bias, stride, padding)
        return found
    width = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)[2]
    served = on_cpu.serves_packed_fprop(weight.shape, width, dilation, groups)
    if served and form == torch.channels_last_3d and _native(x, "cpu"):
        y = fprop_fake(x, weight, bias, stride, padding, dilation, groups)
        last = (laid_out(x, form), laid_out(weight, form))
        return on_cpu.packed_fprop(*last, bias, y, stride, padding, dilation)
    library = (stride, padding, dilation, False, _NO_OUTPUT_PADDING, groups)
    safe = _safe_dtype(x, x.shape[2:], weight.shape[2:], stride, padding, dilation)
    b = None if bias is None else bias.to(safe)
    y = _aten.convolution(laid_out(x, form).to(safe), weight.to(safe), b, *library)
    return laid_out(y.to(x.dtype), form)


def _single(
    operand: Tensor,  # any of the pass; tells device and dtype
    weight: Sequence[int],  # K, C / groups, kD, kH, kW
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> ModuleType | None:
    """The extension's kernels where a pass of one input channel has, and should take, them."""
    serves = on_cpu.serves_single(weight, stride, padding, dilation, groups)
    if not serves or not _native(operand, "cpu", "cuda"):
        return None
    return dispatch.module("conv3d", operand)


def _native(operand: Tensor, *devices: str) -> bool:
    """Whether the extension's kernels, which are there for such devices, should take a pass."""
    if operand.device.type not in devices or operand.dtype not in on_cpu.DTYPES:
        return False
    return dispatch.choose("conv3d", operand) == "native"


def _safe_dtype(
    operand: Tensor,  # any of the pass; tells device and dtype
    size: Sequence[int],  # D, H, W
    kernel: Sequence[int],  # kD, kH, kW
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> torch.dtype:
    """Dtype in which the CPU library answers rightly and soon; mostly the operand's own.

    oneDNN 3.12 (torch 2.13, AVX-512) reads outside the volume, with a wrong result or a crash: in
    every dtype where a stride along W leaves outputs one voxel wide but more than one high; at half
    width also for dilated kernels and for kernels larger than the volume.
    """
    if operand.device.type != "cpu" or operand.dtype == torch.float64:
        return operand.dtype
    _, height, width = output_size(size, kernel, stride, padding, dilation)
    if width == 1 and height > 1 and stride[2] > 1:
        return torch.float64
    outside = any(n < k for n, k in zip(size, kernel, strict=True))
    narrow = operand.dtype != torch.float32
    if narrow and (outside or max(dilation) > 1 or emulated(operand.dtype)):
        return torch.float32
    return operand.dtype


@functools.cache
def emulated(dtype: torch.dtype) -> bool:
    """Whether the CPU library computes in a 16-bit dtype without instructions for it.

    It then takes several times as long as in float32, for some sizes far longer.
    """
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask else {}
    needed = "avx512_fp16" if dtype == torch.float16 else "avx512_bf16"
    return found.get("architecture") == "x86_64" and not found.get(needed)


def fprop_fake(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Its output without data."""
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    shape = (x.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def dgrad(
    g: Tensor,  # [B, K, D', H', W']
    weight: Tensor,  # [K, C / groups, kD, kH, kW]
    size: list[int],  # D, H, W
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:  # [B, C, D, H, W]
    """Kernel of `conv_dgrad`."""

    def fresh() -> Tensor:
        return dgrad_fake(g, weight, size, stride, padding, dilation, groups)

    if g.numel() == 0:
        return fresh().zero_()
    form = memory_format(g)
    if single := _single(g, weight.shape, stride, padding, dilation, groups):
        last_g = laid_out(g, torch.channels_last_3d)
        found: Tensor = single.single_dgrad(last_g, weight.contiguous(), fresh(), stride, padding)
        return found
    x = (len(g), weight.shape[1] * groups, *size)
    geometry = (stride, padding, dilation, groups)
    if triton := kernels_for("conv3d_channels", g, x, weight.shape, *geometry):
        found = triton.dgrad(g, weight, None, size, stride, padding)
        return found
    if g.device.type != "cpu":
        d_x = transposed(laid_out(g, form), weight, size, stride, padding, dilation, groups)
        return laid_out(d_x, form)
    channels = weight.shape[1] * groups
    served = on_cpu.serves_packed_dgrad(channels, weight.shape[2:], stride, dilation, groups)
    if served and form == torch.channels_last_3d and _native(g, "cpu"):
        last = (laid_out(g, form), laid_out(weight, form), fresh())
        return on_cpu.packed_dgrad(*last, stride, padding, dilation)
    # Only the shape is read of the input, and the strides: by them the library lays out its result.
    # Memory that nobody touches costs nothing here.
    library = (stride, padding, dilation, False, _NO_OUTPUT_PADDING, groups)
    safe = _safe_dtype(g, size, weight.shape[2:], stride, padding, dilation)
    tensors = (laid_out(g, form).to(safe), fresh().to(safe), weight.to(safe))
    d_x = _aten.convolution_backward(*tensors, None, *library, [True, False, False])[0]
    return laid_out(d_x.to(g.dtype), form)


def transposed(
    g: Tensor,  # [B, K, D', H', W']
    weight: Tensor,  # [K, C / groups, kD, kH, kW]
    size: Sequence[int],  # D, H, W
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:  # [B, C, D, H, W]
    """Input gradient by the library's transposed convolution, which is the same kernel.

    `convolution_backward` would want a volume, by which it is told the shape of its result: on a
    GPU that is memory, held while the result is allocated.
    """
    reach = output_size(size, weight.shape[2:], stride, padding, dilation)
    axes = zip(size, reach, weight.shape[2:], stride, padding, dilation, strict=True)
    rest = [n - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, k, s, p, d in axes]
    geometry = (list(stride), list(padding), list(dilation), True, rest, groups)
    d_x: Tensor = _aten.convolution(g, weight, None, *geometry)
    return d_x


def dgrad_fake(
    g: Tensor,
    weight: Tensor,
    size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Its output without data."""
    shape = (g.shape[0], weight.shape[1] * groups, *size)
    return torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=memory_format(g))


def wgrad(
    g: Tensor,  # [B, K, D', H', W']
    x: Tensor,  # [B, C, D, H, W]
    kernel: list[int],  # kD, kH, kW
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:  # [K, C / groups, kD, kH, kW]
    """Kernel of `conv_wgrad`."""
    fresh = wgrad_fake(g, x, kernel, stride, padding, dilation, groups)
    if g.numel() == 0:
        return fresh.zero_()
    form = memory_format(x)
    if single := _single(g, fresh.shape, stride, padding, dilation, groups):
        last_g = laid_out(g, torch.channels_last_3d)
        found: Tensor = single.single_wgrad(last_g, x.contiguous(), fresh, stride, padding)
        return found
    geometry = (stride, padding, dilation, groups)
    if triton := kernels_for("conv3d_channels", x, x.shape, fresh.shape, *geometry):
        found = triton.wgrad(g, x, kernel, stride, padding)
        return found
    served = on_cpu.serves_packed_wgrad(x.shape[1], kernel, dilation, groups)
    if served and form == torch.channels_last_3d and _native(x, "cpu"):
        last = (laid_out(g, form), laid_out(x, form), fresh)
        return on_cpu.packed_wgrad(*last, stride, padding, dilation)
    library = (stride, padding, dilation, False, _NO_OUTPUT_PADDING, groups)
    safe = _safe_dtype(g, x.shape[2:], kernel, stride, padding, dilation)
    tensors = (laid_out(g, form).to(safe), laid_out(x, form).to(safe), fresh.to(safe))
    d_weight = _aten.convolution_backward(*tensors, None, *library, [False, True, False])[1]
    return laid_out(d_weight.to(fresh.dtype), form)


def wgrad_fake(
    g: Tensor,
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Its output without data."""
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    return torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=memory_format(x))


def _fprop_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight)


def _fprop_backward(ctx: Any, g: Tensor) -> Grads:
    x, weight = ctx.saved_tensors
    d_x = conv_dgrad(g, weight, x.shape[2:], *ctx.geometry) if wanted(ctx, 0) else None
    d_weight = conv_wgrad(g, x, weight.shape[2:], *ctx.geometry) if wanted(ctx, 1) else None
    d_bias = g.sum((0, 2, 3, 4)) if wanted(ctx, 2) else None
    return d_x, d_weight, d_bias, None, None, None, None


def _dgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    g, weight, _, *ctx.geometry = inputs
    ctx.save_for_backward(g, weight)


def _dgrad_backward(ctx: Any, v: Tensor) -> Grads:
    g, weight = ctx.saved_tensors
    d_g = conv_fprop(v, weight, None, *ctx.geometry) if wanted(ctx, 0) else None
    d_weight = conv_wgrad(g, v, weight.shape[2:], *ctx.geometry) if wanted(ctx, 1) else None
    return d_g, d_weight, None, None, None, None, None


def _wgrad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    g, x, _, *ctx.geometry = inputs
    ctx.save_for_backward(g, x)


def _wgrad_backward(ctx: Any, v: Tensor) -> Grads:
    g, x = ctx.saved_tensors
    d_g = conv_fprop(x, v, None, *ctx.geometry) if wanted(ctx, 0) else None
    d_x = conv_dgrad(g, v, x.shape[2:], *ctx.geometry) if wanted(ctx, 1) else None
    return d_g, d_x, None, None, None, None, None


_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"

conv_fprop = operator(
    f"conv_fprop(Tensor x, Tensor weight, Tensor? bias, {_GEOMETRY}) -> Tensor",
    kernel=fprop,
    fake=fprop_fake,
    setup_context=_fprop_setup,
    backward=_fprop_backward,
    autocast=True,
)
conv_dgrad = operator(
    f"conv_dgrad(Tensor g, Tensor weight, SymInt[] size, {_GEOMETRY}) -> Tensor",
    kernel=dgrad,
    fake=dgrad_fake,
    setup_context=_dgrad_setup,
    backward=_dgrad_backward,
    autocast=True,
)
conv_wgrad = operator(
    f"conv_wgrad(Tensor g, Tensor x, SymInt[] kernel, {_GEOMETRY}) -> Tensor",
    kernel=wgrad,
    fake=wgrad_fake,
    setup_context=_wgrad_setup,
    backward=_wgrad_backward,
)
