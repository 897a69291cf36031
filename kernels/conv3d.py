"""3D convolution, its input gradient and so the transposed convolution, on tensor cores.

    y = conv3d(read(x), weight) + bias            conv3d_fprop
    d_x = the gradient of x, given read(g)        conv3d_dgrad

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
from fastgan.kernels.conv3d_tiles import checked, gather_cut, output_size, shared_memory

__all__ = ["Norm", "NormGradient", "Products", "Statistics", "conv3d_dgrad", "conv3d_fprop"]

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


def conv3d_fprop(
    x: Tensor,  # [B, C, D, H, W] channels_last_3d, not empty, as all volumes here
    weight: Tensor,  # [K, C, kD, kH, kW] channels_last_3d
    bias: Tensor | None,  # [K] contiguous
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    reading: Reading = None,
    sums: Statistics | Products | None = None,
    precision: str = "tf32x3",
) -> tuple[Tensor, Tensor | None]:
    """Convolution of what `reading` makes of x.

    Returns:
        y [B, K, D', H', W'] of x's dtype; the partial sums [B, splits, 2, 3 or 5, K] float64, None
        without `sums`.

    Raises:
        ConfigError: see `conv3d_tiles.obstacle`; tensors of several dtypes, devices or layouts.

    Deterministic: yes.
    Cost: 2 B K C taps S' flops, one launch; each block of channels written reads x once for every
        pair of taps along D and H, by design mostly from the L2 cache.
    """
    checked(x.shape, weight.shape, stride, padding, precision, x, weight, *_read_too(reading, sums))
    size = output_size(x.shape[2:], weight.shape[2:], stride, padding)
    y = x.new_empty((len(x), len(weight), *size)).contiguous(memory_format=LAST)
    return _gathered(x, weight, bias, y, stride, padding, False, reading, sums, precision)


def conv3d_dgrad(
    g: Tensor,  # [B, K, D', H', W']
    weight: Tensor,  # [K, C, kD, kH, kW]
    bias: Tensor | None,  # [C]: that of a transposed convolution
    size: Sequence[int],  # D, H, W
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    reading: Reading = None,
    sums: Statistics | Products | None = None,
    precision: str = "tf32x3",
) -> tuple[Tensor, Tensor | None]:
    """Gradient of a convolution's input, given what `reading` makes of g; a transposed convolution.

    Returns:
        d_x [B, C, D, H, W] and partial sums, as `conv3d_fprop`.

    Raises:
        ConfigError: as `conv3d_fprop`; a g whose size is not that of the convolution's output.

    Deterministic: yes; no sum is scattered.
    Cost: as the convolution.
    """
    x_shape = (len(g), weight.shape[1], *size)
    checked(x_shape, weight.shape, stride, padding, precision, g, weight, *_read_too(reading, sums))
    made = (len(g), len(weight), *output_size(size, weight.shape[2:], stride, padding))
    if tuple(g.shape) != made:
        raise ConfigError(f"conv3d_dgrad: g must be {[*made]}, got {[*g.shape]}")
    d_x = g.new_empty(x_shape).contiguous(memory_format=LAST)
    return _gathered(g, weight, bias, d_x, stride, padding, True, reading, sums, precision)


def _read_too(reading: Reading, sums: Statistics | Products | None) -> list[Tensor | None]:
    found = [reading.z if isinstance(reading, NormGradient) else None]
    return [*found, sums.z, sums.g] if isinstance(sums, Products) else found


def _gathered(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    transposed: bool,
    reading: Reading,
    sums: Statistics | Products | None,
    precision: str,
) -> tuple[Tensor, Tensor | None]:
    channels, written = x.shape[1], y.shape[1]
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
        shape = (len(x), classes * cut.splits, lines, written)
        partial = x.new_empty(shape, dtype=torch.float64)
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
