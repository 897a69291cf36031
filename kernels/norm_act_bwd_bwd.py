"""Second derivative of `norm_act`: sums over voxels, their merge into coefficients, application.

    d_g = s (v [0] + (x - mean) [1] + [2])
    d_x = u [3] + v [4] + (x - mean) [5] + [6]

with v = gg_x, u = s g and one row of coefficients for each channel, computed in float64 by the
formulas of csrc/core/norm_act.h.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.norm_act import affine, normalisation, row, row_stride, store_rows
from fastgan.kernels.norm_act_bwd import merged, store_gradient
from fastgan.kernels.tiles import OPTIONS, SIZES, groups, known, parts, place, tiles

__all__ = ["norm_act_bwd_bwd"]

# Of a tile: 8 a thread, for five sums and three volumes have to stay in registers.
ELEMENTS = 1024


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_bwd_sums_kernel(
    gg_x,  # [B, C, S] v, gradient of d_x
    g,  # [B, C, S] gradient of y
    x,  # [B, C, S]
    mean,  # [B, G]
    rstd,  # [B, G]
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    partial,  # [B, splits, 5, C] float64: sums of u, u (x - mean), v, v (x - mean), v u
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
    sum_v = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    sum_vx = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    sum_vu = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    for start in tl.range(0, count, BLOCK_S, loop_unroll_factor=2):
        valid = (start + s < count)[:, None] & (c < C)[None, :]
        centred = tl.load(x + offsets, mask=valid, other=0).to(accumulator) - mu
        u = tl.load(g + offsets, mask=valid, other=0).to(accumulator)
        u = tl.where(tl.fma(centred, scale, shift) > 0, u, u * slope)
        sum_u += u
        sum_ux = tl.fma(u, centred, sum_ux)
        if gg_x is not None:
            v = tl.load(gg_x + offsets, mask=valid, other=0).to(accumulator)
            sum_v += v
            sum_vx = tl.fma(v, centred, sum_vx)
            sum_vu = tl.fma(v, u, sum_vu)
        offsets += step
    at = partial + (b * splits + split) * 5 * C + c
    tl.store(at, tl.sum(sum_u.to(tl.float64), 0), mask=c < C)
    tl.store(at + C, tl.sum(sum_ux.to(tl.float64), 0), mask=c < C)
    tl.store(at + 2 * C, tl.sum(sum_v.to(tl.float64), 0), mask=c < C)
    tl.store(at + 3 * C, tl.sum(sum_vx.to(tl.float64), 0), mask=c < C)
    tl.store(at + 4 * C, tl.sum(sum_vu.to(tl.float64), 0), mask=c < C)


@triton.jit
def over_group(values, inside, m):
    """[BLOCK_G, 1]: sum over the channels of a group, divided by its elements."""
    return tl.sum(tl.where(inside, values, 0), 1)[:, None] / m


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_bwd_merge_kernel(
    partial,  # [B, splits, 5, C] float64
    mean,  # [B, G]
    rstd,  # [B, G]
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    gg_weight,  # like weight
    gg_bias,  # like bias
    coefficients,  # [B, 10, C]; the last three by `store_rows`
    sums,  # [B, 1, C] contributions to d_weight
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
    group = tl.program_id(0) * BLOCK_G + tl.arange(0, BLOCK_G)
    k = tl.arange(0, BLOCK_K)
    channels = (group * K)[:, None] + k[None, :]
    inside = (group * K < C)[:, None] & (k < K)[None, :]
    accumulator: tl.constexpr = coefficients.dtype.element_ty
    of_group = b * (C // K) + group
    mu = tl.load(mean + of_group, mask=group * K < C, other=0)[:, None]
    rounded = tl.load(rstd + of_group, mask=group * K < C, other=0)[:, None]
    r = rounded.to(tl.float64)
    gamma = affine(weight, weight_stride, b, channels, C, 1, tl.float64)
    hg = affine(gg_weight, weight_stride, b, channels, C, 0, tl.float64)
    hb = affine(gg_bias, bias_stride, b, channels, C, 0, tl.float64)
    u = merged(partial, b, channels, inside, C, splits, 0, 5, BLOCK_N, BLOCK_G, BLOCK_K)
    ux = merged(partial, b, channels, inside, C, splits, 1, 5, BLOCK_N, BLOCK_G, BLOCK_K) * r
    v = merged(partial, b, channels, inside, C, splits, 2, 5, BLOCK_N, BLOCK_G, BLOCK_K)
    vx = merged(partial, b, channels, inside, C, splits, 3, 5, BLOCK_N, BLOCK_G, BLOCK_K) * r
    vu = merged(partial, b, channels, inside, C, splits, 4, 5, BLOCK_N, BLOCK_G, BLOCK_K)
    m = tl.full((), S, tl.float64) * K
    mean_u = over_group(gamma * u, inside, m)
    mean_ux = over_group(gamma * ux, inside, m)
    mean_v = over_group(v, inside, m)
    mean_vx = over_group(vx, inside, m)
    mean_hu = over_group(hg * u, inside, m)
    mean_hux = over_group(hg * ux, inside, m)
    kappa = over_group(gamma * vu, inside, m) - mean_v * mean_u
    none = tl.zeros((BLOCK_G, BLOCK_K), tl.float64)
    g_centred = r * (hg - gamma * r * mean_vx)
    x_centred = none - r * r * (r * (kappa - 3 * mean_ux * mean_vx) + mean_hux)
    x_one = none + r * r * (mean_vx * mean_u + mean_ux * mean_v) - r * mean_hu
    at = coefficients + b * 10 * C + channels
    tl.store(at, (gamma * r).to(accumulator), mask=inside)
    tl.store(at + C, g_centred.to(accumulator), mask=inside)
    tl.store(at + 2 * C, (hb - gamma * r * mean_v).to(accumulator), mask=inside)
    tl.store(at + 3 * C, (r * hg - r * r * mean_vx * gamma).to(accumulator), mask=inside)
    tl.store(at + 4 * C, (none - r * r * mean_ux).to(accumulator), mask=inside)
    tl.store(at + 5 * C, x_centred.to(accumulator), mask=inside)
    tl.store(at + 6 * C, x_one.to(accumulator), mask=inside)
    affines = weight, bias, weight_stride, bias_stride
    store_rows(at + 7 * C, mu, rounded, *affines, b, channels, inside, C)
    of_weight = r * (vu - mean_v * u - mean_vx * ux)
    tl.store(sums + b * C + channels, of_weight.to(accumulator), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def norm_act_bwd_bwd_apply_kernel(
    gg_x,  # [B, C, S]
    g,  # [B, C, S]
    x,  # [B, C, S]
    coefficients,  # [B, 10, C]; the last three by `store_rows`
    sums,  # [B, 1, C]
    d_g,  # [B, C, S]
    d_x,  # [B, C, S]
    d_weight,  # like weight
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
    at = coefficients + b * 10 * C
    centred -= row(at + 7 * C, c, C)
    z = tl.fma(centred, row(at + 8 * C, c, C), row(at + 9 * C, c, C))
    above = z > 0
    u = tl.where(above, u, u * slope)
    to_g = tl.fma(centred, row(at + C, c, C), row(at + 2 * C, c, C))
    to_x = tl.fma(centred, row(at + 5 * C, c, C), row(at + 6 * C, c, C))
    to_x = tl.fma(u, row(at + 3 * C, c, C), to_x)
    if gg_x is not None:
        v = tl.load(gg_x + offsets, mask=valid, other=0).to(accumulator)
        to_g = tl.fma(v, row(at, c, C), to_g)
        to_x = tl.fma(v, row(at + 4 * C, c, C), to_x)
    to_g = tl.where(above, to_g, to_g * slope)
    tl.store(d_g + offsets, to_g.to(d_g.dtype.element_ty), mask=valid)
    tl.store(d_x + offsets, to_x.to(d_x.dtype.element_ty), mask=valid)
    if d_weight is not None:  # noqa: SIM102 (decided when compiling, the next is not)
        if split == 0:
            store_gradient(sums, d_weight, b, c, B, C, 1, WEIGHT_PER_SAMPLE)


def norm_act_bwd_bwd(
    gg_x: Tensor | None,  # [B, C, ...] gradient of d_x; None is zero, as of the next two
    gg_weight: Tensor | None,  # like weight, gradient of d_weight
    gg_bias: Tensor | None,  # like bias, gradient of d_bias
    g: Tensor,  # [B, C, ...], from here on as in `norm_act_bwd`
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor | None]:  # d_g and d_x like x; d_weight, None beside None
    """Derivative of `norm_act_bwd`, deterministic; the one with respect to bias is zero.

    Cost: two reads of gg_x, g and x (what the L2 cache holds: one), two writes of x, three
        launches.
    """
    cut = tiles(x, num_groups, ELEMENTS)
    partial = mean.new_empty((cut.B, cut.splits, 5, cut.C), dtype=torch.float64)
    coefficients, sums = (mean.new_empty((cut.B, rows, cut.C)) for rows in (10, 1))
    d_g, d_x = torch.empty_like(x), torch.empty_like(x)
    d_weight = None if weight is None else torch.empty_like(weight)
    strides = row_stride(weight), row_stride(bias)
    volumes = gg_x, g, x, mean, rstd, weight, bias
    merge, each = groups(cut.B, cut.C // cut.K, cut.K), cut.one_each()
    with torch.cuda.device_of(x):
        norm_act_bwd_bwd_sums_kernel[cut.grid](
            *(*volumes, partial, *strides, *cut.sizes, negative_slope), **OPTIONS
        )
        norm_act_bwd_bwd_merge_kernel[merge.grid](
            *(partial, mean, rstd, weight, bias, gg_weight, gg_bias, coefficients, sums, *strides),
            *(cut.C, cut.S, cut.K, cut.splits, *merge[1:]),
            **OPTIONS,
        )
        norm_act_bwd_bwd_apply_kernel[each.grid](
            *(gg_x, g, x, coefficients, sums, d_g, d_x, d_weight, *each),
            *(negative_slope, strides[0] > 0),
            **OPTIONS,
        )
    return d_g, d_x, d_weight
