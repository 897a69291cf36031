"""Group normalisation, affine map and LeakyReLU: statistics, and their application.

The formulas and names are those of csrc/core/norm_act.h. Statistics take two launches, Welford's
recurrence in every lane and an exact merge in float64; the application one, which walks the volume
backwards and so meets in the L2 cache what the statistics read last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.tiles import OPTIONS, SIZES, SUMMING, groups, known, parts, place, tiles

__all__ = ["norm_act_apply", "norm_act_fwd", "norm_act_statistics"]

# Of a tile: 16 a thread, two (bfloat16) or four (float32) 16-byte reads in flight.
ELEMENTS = 2048
# Channels of a program that prepares rows.
_ROW = 128


@triton.jit(do_not_specialize=SIZES)
def norm_act_statistics_kernel(
    x,  # [B, C, S]
    partial,  # [B, splits, 2, C] float64: mean and sum of squares about it
    C,
    S,
    K,
    chunk,
    BLOCK_S: tl.constexpr,
    BLOCK_C: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    STEPS: tl.constexpr,  # read at once
):
    # one program per (split, block of channels, sample); one lane per (voxel of a tile, channel)
    split, splits = parts(C, BLOCK_C)
    C, S = known(C, S, LAST, WIDE)
    b, c, count, offsets, step = place(split, C, S, chunk, BLOCK_S, BLOCK_C, LAST)
    exact: tl.constexpr = x.dtype.element_ty == tl.float64
    accumulator: tl.constexpr = tl.float64 if exact else tl.float32
    s = tl.arange(0, BLOCK_S)
    n = tl.full((), 0, accumulator)
    mean = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    squares = tl.zeros((BLOCK_S, BLOCK_C), accumulator)
    for start in tl.range(0, count, BLOCK_S, loop_unroll_factor=STEPS):
        valid = (start + s < count)[:, None] & (c < C)[None, :]
        value = tl.load(x + offsets, mask=valid, other=0).to(accumulator)
        # A lane past the end sees its own mean, which changes nothing.
        delta = tl.where(valid, value - mean, 0)
        n += 1
        mean = tl.fma(delta, 1 / n, mean)
        squares = tl.fma(delta, tl.fma(delta, -1 / n, delta), squares)
        offsets += step
    # Lanes meet in float64, for a tree of float32 sums would cost digits that the lanes have, and
    # relative to the first, or a large mean would round their differences away.
    lane = ((count - s + BLOCK_S - 1) // BLOCK_S).to(accumulator)[:, None]
    origin = tl.sum(tl.where((s == 0)[:, None], mean, 0), 0)
    away = mean - origin[None, :]
    middle = tl.sum((lane * away).to(tl.float64), 0) / tl.full((), count, tl.float64)
    away -= middle.to(accumulator)[None, :]
    at = partial + (b * splits + split) * 2 * C + c
    tl.store(at, origin.to(tl.float64) + middle, mask=c < C)
    squares = tl.fma(lane * away, away, squares)
    tl.store(at + C, tl.sum(squares.to(tl.float64), 0), mask=c < C)


@triton.jit(do_not_specialize=SIZES)
def norm_act_statistics_merge_kernel(
    partial,  # [B, splits, 2, C] float64
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    mean,  # [B, G]
    rstd,  # [B, G]
    rows,  # [B, 3, C]: see `store_rows`
    weight_stride,
    bias_stride,
    C,
    S,
    K,
    chunk,
    splits,
    eps: tl.float64,
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
    m = tl.full((), S, tl.float64) * K
    mu = tl.zeros((BLOCK_G,), tl.float64)
    for start in range(0, splits, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        valid = (n < splits)[:, None, None] & inside[None, :, :]
        at = partial + (b * splits + n)[:, None, None] * 2 * C + channels[None, :, :]
        voxels = tl.minimum(S - n.to(tl.int64) * chunk, chunk).to(tl.float64)[:, None, None]
        value = tl.load(at, mask=valid, other=0)
        mu += tl.sum(tl.sum(value * voxels, 0), 1)
    mu /= m
    squares = tl.zeros((BLOCK_G,), tl.float64)
    for start in range(0, splits, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        valid = (n < splits)[:, None, None] & inside[None, :, :]
        at = partial + (b * splits + n)[:, None, None] * 2 * C + channels[None, :, :]
        voxels = tl.minimum(S - n.to(tl.int64) * chunk, chunk).to(tl.float64)[:, None, None]
        away = tl.load(at, mask=valid, other=0) - mu[None, :, None]
        within = tl.load(at + C, mask=valid, other=0)
        squares += tl.sum(tl.sum(tl.where(valid, within + voxels * away * away, 0), 0), 1)
    to = b * (C // K) + g
    accumulator: tl.constexpr = mean.dtype.element_ty
    r = 1 / tl.sqrt(squares / m + eps)
    tl.store(mean + to, mu.to(accumulator), mask=g * K < C)
    tl.store(rstd + to, r.to(accumulator), mask=g * K < C)
    at = rows + b * 3 * C + channels
    constants = mu.to(accumulator)[:, None], r.to(accumulator)[:, None]
    affines = weight, bias, weight_stride, bias_stride
    store_rows(at, *constants, *affines, b, channels, inside, C)


@triton.jit
def affine(parameter, stride, b, c, C, default: tl.constexpr, accumulator: tl.constexpr):
    """Weight or bias [C] of sample b at channels c, or the value that stands for None."""
    if parameter is None:
        return tl.full(c.shape, default, accumulator)
    else:
        return tl.load(parameter + b * stride + c, mask=c < C, other=default).to(accumulator)


@triton.jit
def store_rows(at, mu, r, weight, bias, weight_stride, bias_stride, b, channels, inside, C):
    """What `normalisation` finds, a row each of [B, *, C] from `at` on: read side by side, and
    without a division by the channels of a group.
    """
    accumulator: tl.constexpr = at.dtype.element_ty
    gamma = affine(weight, weight_stride, b, channels, C, 1, accumulator)
    beta = affine(bias, bias_stride, b, channels, C, 0, accumulator)
    tl.store(at, tl.where(inside, mu, 0), mask=inside)
    tl.store(at + C, gamma * r, mask=inside)
    tl.store(at + 2 * C, beta, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def norm_act_rows_kernel(
    mean,  # [B, G]
    rstd,  # [B, G]
    weight,  # [C] or [B, C]
    bias,  # [C] or [B, C]
    rows,  # [B, 3, C]
    weight_stride,
    bias_stride,
    C,
    K,
    BLOCK: tl.constexpr,
):
    # one program per (block of channels, sample)
    b = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = b * (C // K) + c // K
    mu = tl.load(mean + at, mask=c < C, other=0)
    r = tl.load(rstd + at, mask=c < C, other=0)
    to = rows + b * 3 * C + c
    store_rows(to, mu, r, weight, bias, weight_stride, bias_stride, b, c, c < C, C)


@triton.jit
def row(at, c, C):
    """[1, BLOCK_C]: one of the rows at channels c."""
    return tl.load(at + c, mask=c < C, other=0)[None, :]


@triton.jit
def normalisation(mean, rstd, weight, bias, weight_stride, bias_stride, b, c, C, K):
    """Mean, weight rstd and bias at channels c: z = (x - mean) scale + bias.

    Rounded alike in every pass, so that each finds the same side of the kink.
    """
    accumulator: tl.constexpr = mean.dtype.element_ty
    at = b * (C // K) + c // K
    mu = tl.load(mean + at, mask=c < C, other=0)
    r = tl.load(rstd + at, mask=c < C, other=0)
    gamma = affine(weight, weight_stride, b, c, C, 1, accumulator)
    beta = affine(bias, bias_stride, b, c, C, 0, accumulator)
    return mu[None, :], (gamma * r)[None, :], beta[None, :]


@triton.jit(do_not_specialize=SIZES)
def norm_act_apply_kernel(
    x,  # [B, C, S]
    rows,  # [B, 3, C]: mean, scale, shift
    y,  # [B, C, S]
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
    # one program per (tile of the voxels, block of channels, sample), last voxels first
    split, splits = parts(C, BLOCK_C)
    split = splits - 1 - split
    C, S = known(C, S, LAST, WIDE)
    b, c, count, offsets, _ = place(split, C, S, chunk, BLOCK_S, BLOCK_C, LAST)
    accumulator: tl.constexpr = rows.dtype.element_ty
    slope = tl.full((), negative_slope, accumulator)
    valid = (tl.arange(0, BLOCK_S) < count)[:, None] & (c < C)[None, :]
    value = tl.load(x + offsets, mask=valid, other=0).to(accumulator)
    at = rows + b * 3 * C
    z = tl.fma(value - row(at, c, C), row(at + C, c, C), row(at + 2 * C, c, C))
    out = tl.where(z > 0, z, z * slope)
    tl.store(y + offsets, out.to(y.dtype.element_ty), mask=valid)


def norm_act_statistics(x: Tensor, num_groups: int, eps: float) -> Tensor:
    """Mean and (variance + eps)^-1/2 of every group.

    Args:
        x: [B, C, ...] float32, bfloat16 or float64, contiguous with channels first or last, not
            empty.
        num_groups: G, a divisor of C.
        eps: added to the variance.

    Returns:
        [2, B, G] float32 (float64 for float64): mean, rstd.

    Deterministic: yes.
    Cost: one read of x, two launches.
    """
    both = x.new_empty((2, x.shape[0], num_groups), dtype=_accumulator(x))
    _statistics(x, None, None, both.unbind(), eps)
    return both


def norm_act_apply(
    x: Tensor,  # [B, C, ...] as in `norm_act_statistics`
    mean: Tensor,  # [B, G] contiguous
    rstd: Tensor,  # [B, G] contiguous
    weight: Tensor | None,  # [C] or [B, C] contiguous; None: 1
    bias: Tensor | None,  # [C] or [B, C] contiguous; None: 0
    num_groups: int,
    negative_slope: float,
) -> Tensor:  # like x
    """LeakyReLU(weight (x - mean) rstd + bias); one read and one write of x, two launches."""
    batch, channels = x.shape[:2]
    rows = mean.new_empty((batch, 3, channels))
    strides = row_stride(weight), row_stride(bias)
    grid = triton.cdiv(channels, _ROW), batch
    with torch.cuda.device_of(x):
        norm_act_rows_kernel[grid](
            *(mean, rstd, weight, bias, rows, *strides, channels, channels // num_groups),
            BLOCK=_ROW,
            **OPTIONS,
        )
    return _applied(x, rows, num_groups, negative_slope)


def norm_act_fwd(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    num_groups: int,
    eps: float,
    negative_slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The value like x, and mean and rstd [B, G]; three launches."""
    shape = (x.shape[0], num_groups)
    mean, rstd = (x.new_empty(shape, dtype=_accumulator(x)) for _ in range(2))
    rows = _statistics(x, weight, bias, (mean, rstd), eps)
    return _applied(x, rows, num_groups, negative_slope), mean, rstd


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _statistics(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    out: tuple[Tensor, ...],  # where mean and rstd go, [B, G]
    eps: float,
) -> Tensor:
    """The rows [B, 3, C] that the application reads, beside mean and rstd."""
    mean, rstd = out
    # 16 bytes a thread and tile, four of them at once, where that leaves registers
    half = x.element_size() == 2
    cut = tiles(x, mean.shape[1], ELEMENTS // 2 if half else ELEMENTS)
    partial = x.new_empty((cut.B, cut.splits, 2, cut.C), dtype=torch.float64)
    rows = mean.new_empty((cut.B, 3, cut.C))
    merge = groups(cut.B, cut.C // cut.K, cut.K)
    with torch.cuda.device_of(x):
        norm_act_statistics_kernel[cut.grid](x, partial, *cut.sizes, 4 if half else 1, **SUMMING)
        norm_act_statistics_merge_kernel[merge.grid](
            *(partial, weight, bias, mean, rstd, rows, row_stride(weight), row_stride(bias)),
            *(cut.C, cut.S, cut.K, cut.chunk, cut.splits, eps, *merge[1:]),
            **OPTIONS,
        )
    return rows


def _applied(x: Tensor, rows: Tensor, num_groups: int, negative_slope: float) -> Tensor:
    y = torch.empty_like(x)
    cut = tiles(x, num_groups, ELEMENTS).one_each()
    with torch.cuda.device_of(x):
        norm_act_apply_kernel[cut.grid](x, rows, y, *cut.sizes, negative_slope, **OPTIONS)
    return y


def row_stride(parameter: Tensor | None) -> int:
    """Elements between the rows of two samples: 0 where they share one."""
    return parameter.shape[1] if parameter is not None and parameter.dim() == 2 else 0
