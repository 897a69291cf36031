"""First derivative of `norm_act`: sums over voxels, their merge into coefficients, application.

d_x = u [0] + (x - mean) [1] + [2] with u = s g and one row of coefficients for each channel; the
merge computes them in float64 by the formulas of csrc/core/norm_act.h.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.norm_act import ELEMENTS, affine, normalisation, row, row_stride, store_rows
from fastgan.kernels.tiles import OPTIONS, SIZES, SUMMING, groups, known, parts, place, tiles

__all__ = ["norm_act_bwd", "norm_act_bwd_coefficients"]

# Of a tile of the sums: 8 a thread, and two tiles are read at once.
SUMMED = 1024


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_sums_kernel(
    g,  # [B, C, S] gradient of y
    x,  # [B, C, S]
    mean,  # [B, G]
    rstd,  # [B, G]
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    partial,  # [B, splits, 2, C] float64: sums of u and of u (x - mean)
    weight_stride,
    bias_stride,
    C,
    S,
    K,
    chunk,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    negative_slope: tl.float64,
):
    # one program per (split, block of channels, sample); one lane per (voxel of a tile, channel)
    split, splits = parts(C, BLOCK_C)
    C, S = known(C, S, LAST, WIDE)
    b, c, count, offsets, step = place(split, C, S, chunk, BLOCK_S, BLOCK_C, LAST)
    accumulator: tl.constexpr = mean.dtype.element_ty
    slope = tl.full((), negative_slope, accumulator)
    mu, scale, shift = normalisation(
        mean, rstd, weight, bias, weight_stride, bias_stride, b, c, C, K
    )
    s = tl.arange(0, BLOCK_S)
    sum_u = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    sum_ux = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    for start in tl.range(0, count, BLOCK_S, loop_unroll_factor=2):
        valid = (start + s < count)[:, None] & (c < C)[None, :]
        centred = tl.load(x + offsets, mask=valid, other=0).to(accumulator) - mu
        u = tl.load(g + offsets, mask=valid, other=0).to(accumulator)
        u = tl.where(tl.fma(centred, scale, shift) > 0, u, u * slope)
        sum_u += u
        sum_ux = tl.fma(u, centred, sum_ux)
        offsets += step
    at = partial + (b * splits + split) * 2 * C + c
    tl.store(at, tl.sum(sum_u.to(tl.float64), 0), mask=c < C)
    tl.store(at + C, tl.sum(sum_ux.to(tl.float64), 0), mask=c < C)


@triton.jit
def merged(
    partial,
    b,
    channels,
    inside,
    C,
    splits,
    ROW: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """[BLOCK_G, BLOCK_K] float64: sum over splits of a row of partial sums [B, splits, *, C]."""
    total = tl.zeros((BLOCK_G, BLOCK_K), tl.float64)
    for start in range(0, splits, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        valid = (n < splits)[:, None, None] & inside[None, :, :]
        row = ((b * splits + n) * ROWS + ROW)[:, None, None]
        value = tl.load(partial + row * C + channels[None, :, :], mask=valid, other=0)
        total += tl.sum(value, 0)
    return total


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_merge_kernel(
    partial,  # [B, splits, 2, C] float64
    mean,  # [B, G]
    rstd,  # [B, G]
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    coefficients,  # [B, 6, C]; the last three by `store_rows`
    sums,  # [B, 2, C] of u and of u xh
    weight_stride,
    bias_stride,
    C,
    S,
    K,
    splits,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # one program per (block of groups, sample)
    b = tl.program_id(1).to(tl.int64)
    g = tl.program_id(0) * BLOCK_G + tl.arange(0, BLOCK_G)
    k = tl.arange(0, BLOCK_K)
    channels = (g * K)[:, None] + k[None, :]
    inside = (g * K < C)[:, None] & (k < K)[None, :]
    accumulator: tl.constexpr = coefficients.dtype.element_ty
    of_group = b * (C // K) + g
    mu = tl.load(mean + of_group, mask=g * K < C, other=0)[:, None]
    rounded = tl.load(rstd + of_group, mask=g * K < C, other=0)[:, None]
    r = rounded.to(tl.float64)
    gamma = affine(weight, weight_stride, b, channels, C, 1, tl.float64)
    sum_u = merged(partial, b, channels, inside, C, splits, 0, 2, BLOCK_N, BLOCK_G, BLOCK_K)
    sum_ux = merged(partial, b, channels, inside, C, splits, 1, 2, BLOCK_N, BLOCK_G, BLOCK_K) * r
    m = tl.full((), S, tl.float64) * K
    mean_u = tl.sum(tl.where(inside, gamma * sum_u, 0), 1)[:, None] / m
    mean_ux = tl.sum(tl.where(inside, gamma * sum_ux, 0), 1)[:, None] / m
    none = tl.zeros((BLOCK_G, BLOCK_K), tl.float64)
    at = coefficients + b * 6 * C + channels
    tl.store(at, (gamma * r).to(accumulator), mask=inside)
    tl.store(at + C, (none - r * r * mean_ux).to(accumulator), mask=inside)
    tl.store(at + 2 * C, (none - r * mean_u).to(accumulator), mask=inside)
    affines = weight, bias, weight_stride, bias_stride
    store_rows(at + 3 * C, mu, rounded, *affines, b, channels, inside, C)
    at = sums + b * 2 * C + channels
    tl.store(at, sum_u.to(accumulator), mask=inside)
    tl.store(at + C, sum_ux.to(accumulator), mask=inside)


@triton.jit
def store_gradient(sums, gradient, b, c, B, C, ROWS: tl.constexpr, PER_SAMPLE: tl.constexpr):
    """Gradient of a weight or bias from a row of sums [B, ROWS, C], at channels c of sample b."""
    if PER_SAMPLE:
        total = tl.load(sums + b * ROWS * C + c, mask=c < C, other=0)
        tl.store(gradient + b * C + c, total.to(gradient.dtype.element_ty), mask=c < C)
    elif b == 0:
        total = tl.load(sums + c, mask=c < C, other=0)
        for other in range(1, B):
            total += tl.load(sums + tl.cast(other, tl.int64) * ROWS * C + c, mask=c < C, other=0)
        tl.store(gradient + c, total.to(gradient.dtype.element_ty), mask=c < C)


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_apply_kernel(
    g,  # [B, C, S]
    x,  # [B, C, S]
    coefficients,  # [B, 6, C]; the last three by `store_rows`
    sums,  # [B, 2, C]
    d_x,  # [B, C, S]
    d_weight,  # like weight
    d_bias,  # like bias
    B,
    C,
    S,
    K,
    chunk,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    negative_slope: tl.float64,
    WEIGHT_PER_SAMPLE: tl.constexpr,
    BIAS_PER_SAMPLE: tl.constexpr,
):
    # one program per (tile of the voxels, block of channels, sample), last voxels first
    split, splits = parts(C, BLOCK_C)
    split = splits - 1 - split
    C, S = known(C, S, LAST, WIDE)
    b, c, count, offsets, _ = place(split, C, S, chunk, BLOCK_S, BLOCK_C, LAST)
    accumulator: tl.constexpr = coefficients.dtype.element_ty
    slope = tl.full((), negative_slope, accumulator)
    valid = (tl.arange(0, BLOCK_S) < count)[:, None] & (c < C)[None, :]
    centred = tl.load(x + offsets, mask=valid, other=0).to(accumulator)
    u = tl.load(g + offsets, mask=valid, other=0).to(accumulator)
    at = coefficients + b * 6 * C
    centred -= row(at + 3 * C, c, C)
    z = tl.fma(centred, row(at + 4 * C, c, C), row(at + 5 * C, c, C))
    u = tl.where(z > 0, u, u * slope)
    out = tl.fma(u, row(at, c, C), tl.fma(centred, row(at + C, c, C), row(at + 2 * C, c, C)))
    tl.store(d_x + offsets, out.to(d_x.dtype.element_ty), mask=valid)
    if split == 0:
        if d_bias is not None:
            store_gradient(sums, d_bias, b, c, B, C, 2, BIAS_PER_SAMPLE)
        if d_weight is not None:
            store_gradient(sums + C, d_weight, b, c, B, C, 2, WEIGHT_PER_SAMPLE)


def norm_act_bwd_coefficients(
    partial: Tensor,  # [B, splits, 2, C] float64: sums of u and of u (x - mean) over voxels
    mean: Tensor,  # [B, G] contiguous
    rstd: Tensor,  # [B, G] contiguous
    weight: Tensor | None,  # [C] or [B, C] contiguous; None: 1
    bias: Tensor | None,  # [C] or [B, C] contiguous; None: 0
    voxels: int,  # S
) -> tuple[Tensor, Tensor]:
    """Coefficients [B, 6, C] of the application, and sums [B, 2, C] of u and of u xh."""
    batch, splits, _, channels = partial.shape
    per_group = channels // mean.shape[1]
    coefficients, sums = (mean.new_empty((batch, rows, channels)) for rows in (6, 2))
    merge = groups(batch, mean.shape[1], per_group)
    with torch.cuda.device_of(partial):
        norm_act_bwd_merge_kernel[merge.grid](
            *(partial, mean, rstd, weight, bias, coefficients, sums),
            *(row_stride(weight), row_stride(bias), channels, voxels, per_group, splits),
            *merge[1:],
            **OPTIONS,
        )
    return coefficients, sums


def norm_act_bwd(
    g: Tensor,  # [B, C, ...] gradient of y, in the layout of x
    x: Tensor,  # [B, C, ...] channels first or last, not empty
    mean: Tensor,  # [B, G] contiguous
    rstd: Tensor,  # [B, G] contiguous
    weight: Tensor | None,  # [C] or [B, C] contiguous; None: 1
    bias: Tensor | None,  # [C] or [B, C] contiguous; None: 0
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # d_x; d_weight and d_bias, None beside None
    """First derivative of `fastgan.kernels.norm_act.norm_act_fwd`; deterministic.

    Cost: two reads of g and x (what the L2 cache holds: one), one write of x; three launches.
    """
    cut = tiles(x, num_groups, SUMMED)
    partial = mean.new_empty((cut.B, cut.splits, 2, cut.C), dtype=torch.float64)
    d_x = torch.empty_like(x)
    d_weight, d_bias = (None if p is None else torch.empty_like(p) for p in (weight, bias))
    strides = row_stride(weight), row_stride(bias)
    volumes = g, x, mean, rstd, weight, bias
    each = tiles(x, num_groups, ELEMENTS).one_each()
    with torch.cuda.device_of(x):
        norm_act_bwd_sums_kernel[cut.grid](
            *(*volumes, partial, *strides, *cut.sizes, negative_slope), **SUMMING
        )
        coefficients, sums = norm_act_bwd_coefficients(partial, mean, rstd, weight, bias, cut.S)
        norm_act_bwd_apply_kernel[each.grid](
            *(g, x, coefficients, sums, d_x, d_weight, d_bias, *each),
            *(negative_slope, strides[0] > 0, strides[1] > 0),
            **OPTIONS,
        )
    return d_x, d_weight, d_bias
