"""3D convolution, its input gradient and so the transposed convolution, on tensor cores.

    y = conv3d(read(x), weight) + bias, or the input gradient of that    conv3d_gather
    d_weight = the gradient of weight, given g and act(norm(x))          conv3d_wgrad

`read` is nothing, norm and activation, or their derivative; what a norm needs to know of the volume
written is summed while it is written (`kernels/conv3d_reading.py`, `kernels/conv3d_sums.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.kernels.conv3d_gather import conv3d_gather_kernel
from fastgan.kernels.conv3d_reading import (
    Norm,
    NormGradient,
    Reading,
    norm_arguments,
    reading_arguments,
)
from fastgan.kernels.conv3d_tiles import (
    MERGED,
    checked,
    gather_cut,
    output_size,
    shared_memory,
    wgrad_cut,
)
from fastgan.kernels.conv3d_wgrad import conv3d_wgrad_kernel, conv3d_wgrad_merge_kernel
from fastgan.kernels.tiles import OPTIONS

__all__ = ["Norm", "NormGradient", "Products", "Statistics", "conv3d_gather", "conv3d_wgrad"]

LAST = torch.channels_last_3d


class Statistics(NamedTuple):
    """Sums of the volume written: voxels, mean, squares about it, for `conv3d_statistics`."""


class Products(NamedTuple):
    """Sums of the volume written with a norm's input z, for the merges of `norm_act`.

    Without g the volume is the gradient behind the norm's activation, and the sums are those of
    `norm_act_bwd`; with it the volume is v of `norm_act_bwd_bwd`, and so are the sums.
    """

    z: Tensor  # like the volume written
    norm: Norm  # of z
    g: Tensor | None = None  # like z, gradient behind the activation


def conv3d_gather(
    x: Tensor,  # [B, C, D, H, W] channels_last_3d, not empty, as all volumes here
    weight: Tensor,  # [K, C, kD, kH, kW] channels_last_3d; of an input gradient [C, K, kD, kH, kW]
    bias: Tensor | None,  # [K] contiguous
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    size: Sequence[int] | None = None,  # D, H, W of an input gradient, whose g is x
    reading: Reading = None,  # what becomes of x on the way
    sums: Statistics | Products | None = None,  # of the volume written
    precision: str = "tf32x3",  # of products of float32
) -> tuple[Tensor, Tensor | None]:
    """Convolution of what `reading` makes of x; with `size`, the input gradient of a convolution.

    Returns:
        The volume written [B, K, ...] of x's dtype; the partial sums [B, splits, 2, 3 or 5, K]
        float64, None without `sums`.

    Raises:
        ConfigError: see `conv3d_tiles.obstacle`; tensors of several dtypes, devices or layouts; an
            x whose size is not that of the convolution's output.

    Deterministic: yes; no sum is scattered.
    Cost: 2 B K C taps flops a voxel of the convolution's output, one launch; each block of channels
        written reads x once for every pair of taps along D and H, mostly from the L2 cache.
    """
    transposed = size is not None
    channels, written = x.shape[1], weight.shape[1 if transposed else 0]
    outer = (len(x), written, *size) if size is not None else tuple(x.shape)
    checked(outer, weight.shape, stride, padding, precision, x, weight, *_read_too(reading, sums))
    made = output_size(outer[2:], weight.shape[2:], stride, padding)
    if transposed and tuple(x.shape) != (len(x), len(weight), *made):
        raise ConfigError(
            f"conv3d: x must be {[len(x), len(weight), *made]} for a gradient of {[*outer]},"
            f" got {[*x.shape]}"
        )
    shape = outer if transposed else (len(x), written, *made)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST)
    products = sums if isinstance(sums, Products) else None
    activated = reading if isinstance(reading, Norm) else None
    if products is not None and activated is not None:
        raise ConfigError("conv3d: sums with a norm's input need a volume that is not normalised")
    norm = activated if products is None else products.norm
    classes, steps = 1, [1, 1, 1]
    odd = padding[2] % stride[2]
    taps, phases, inputs = weight.shape[4], stride[2], triton.cdiv(x.shape[4], stride[2])
    distances = (taps - 1 + odd) // stride[2] + 1
    if transposed:
        classes, steps, inputs = math.prod(stride), [*stride], x.shape[4]
        taps, phases, odd = triton.cdiv(taps, stride[2]), 1, 0
        distances = taps
    *rows, outputs = (triton.cdiv(n, s) for n, s in zip(y.shape[2:], steps, strict=True))
    row = max(inputs, outputs)
    volumes = 2 if isinstance(reading, NormGradient) else 1
    cut = gather_cut(
        *(math.prod(rows) * row, len(x) * classes, (channels, written), distances),
        *((phases * volumes, taps), reading is not None),
        *(x.element_size(), shared_memory(x.device)),
    )
    partial = None
    if sums is not None:
        lines = 3 if products is None else 2 if products.g is None else 5
        partial_shape = (len(x), classes * cut.splits, lines, written)
        partial = x.new_empty(partial_shape, dtype=torch.float64)
    z, coefficients, slope = reading_arguments(reading)
    normed = written if products is not None else channels
    *of_norm, norm_slope = norm_arguments(norm, normed)
    grid = (classes * cut.splits * triton.cdiv(written, cut.block_n), len(x))
    with torch.cuda.device_of(x):
        conv3d_gather_kernel[grid](
            *(x, z, coefficients, weight, bias, y, None if products is None else products.z),
            *(None if products is None else products.g, *of_norm[:4], partial, *of_norm[4:]),
            *(*x.shape[2:], channels, *y.shape[2:], written, *padding, row, cut.chunk),
            *(slope, norm_slope, *weight.shape[2:], *stride, odd, transposed, precision),
            *cut[:3],
            **cut.options,
        )
    return y, partial


def conv3d_wgrad(
    g: Tensor,  # [B, K, D', H', W'] channels_last_3d, not empty
    x: Tensor,  # [B, C, D, H, W] channels_last_3d
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    norm: Norm | None = None,  # normalises and activates x on the way
    of_g: bool = False,  # or g, as for a transposed convolution
    precision: str = "tf32x3",  # of products of float32
) -> Tensor:
    """Gradient of a convolution's weight; of a transposed one, whose input is g and g is x.

    Returns:
        d_weight [K, C, kD, kH, kW] channels_last_3d, of x's dtype.

    Raises:
        ConfigError: see `conv3d_tiles.obstacle`; tensors of several dtypes, devices or layouts; a g
            whose size is not that of the convolution's output.

    Deterministic: yes; programs' sums meet in a fixed order, in float64.
    Cost: 2 B K C taps S' flops, two launches; for every pair of taps along D and H the volume that
        is normalised (x where none is) is read once for each block of the other's channels, and the
        other once for each tap along W, mostly from the L2 cache. About 512 programs' sums are
        written and read.
    """
    shape = (g.shape[1], x.shape[1], *kernel)
    checked(x.shape, shape, stride, padding, precision, x, g)
    made = (len(x), g.shape[1], *output_size(x.shape[2:], kernel, stride, padding))
    if tuple(g.shape) != made:
        raise ConfigError(f"conv3d: g must be {[*made]}, got {[*g.shape]}")
    odd = padding[2] % stride[2]
    row = made[4] if of_g else max(made[4], triton.cdiv(x.shape[4], stride[2]))
    cut = wgrad_cut(
        *(made[2] * made[3] * row, len(x), shape, (1 if of_g else stride[2], of_g)),
        *(norm is not None, x.element_size(), shared_memory(x.device)),
    )
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    partial = x.new_empty((len(x), cut.splits, math.prod(shape)), dtype=exact)
    d_weight = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAST)
    *of_norm, slope = norm_arguments(norm, (g if of_g else x).shape[1])
    blocks = triton.cdiv(shape[0], cut.block_n) * triton.cdiv(shape[1], cut.block_k)
    grid = (cut.splits * blocks * kernel[0] * kernel[1], len(x))
    with torch.cuda.device_of(x):
        conv3d_wgrad_kernel[grid](
            *(g, x, *of_norm[:4], partial, *of_norm[4:]),
            *(*x.shape[2:], x.shape[1], *g.shape[2:], g.shape[1], *padding, row, cut.chunk),
            *(slope, *kernel, *stride, 0 if of_g else odd, of_g, precision, *cut[:3]),
            **cut.options,
        )
        elements = d_weight.numel()
        conv3d_wgrad_merge_kernel[(triton.cdiv(elements, MERGED[1]),)](
            *(partial, d_weight, len(x) * cut.splits, elements, *MERGED), **OPTIONS
        )
    return d_weight


def _read_too(reading: Reading, sums: Statistics | Products | None) -> list[Tensor | None]:
    found = [reading.z if isinstance(reading, NormGradient) else None]
    return [*found, sums.z, sums.g] if isinstance(sums, Products) else found
