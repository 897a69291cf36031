"""Sums over the volume that a convolution writes, taken while it is written.

A program adds its tiles one after the other to its own row of partial sums [B, splits, rows, K],
float64; carried in registers they would cost six a channel. The rows are those that the merges of
`norm_act`'s derivatives take, or three of statistics for the merge here.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.tiles import OPTIONS

__all__ = ["add", "add_statistics", "conv3d_statistics"]

# Splits and channels of a group that one step of a merge holds.
_SPLITS, _CHANNELS = 128, 8


@triton.jit
def add(row, k, K, value):
    """Add the sum over voxels of value [BLOCK_M, BLOCK_K] to a row of float64 at channels k."""
    before = tl.load(row + k, mask=k < K, other=0)
    # Several threads may read what one of them writes.
    tl.debug_barrier()
    tl.store(row + k, before + tl.sum(value, 0).to(tl.float64), mask=k < K)


@triton.jit
def add_statistics(rows, k, K, value, mask, before, number):
    """Join a tile of `number` voxels to rows of voxels, mean and sum of squares of those before.

    Squares are taken about the tile's rounded mean, so that a large mean costs no digits. `value`
    [BLOCK_M, BLOCK_K] is 0 outside the mask.
    """
    # A tile of the ends of rows alone may have none.
    some = tl.maximum(number, 1)
    middle = tl.sum(value, 0) / some.to(value.dtype)
    away = tl.where(mask, value - middle[None, :], 0)
    shift = tl.sum(away, 0).to(tl.float64) / some.to(tl.float64)
    within = tl.sum(away * away, 0).to(tl.float64) - shift * shift * some.to(tl.float64)
    mean = tl.load(rows + K + k, mask=k < K, other=0)
    squares = tl.load(rows + 2 * K + k, mask=k < K, other=0)
    tl.debug_barrier()
    delta = middle.to(tl.float64) + shift - mean
    share = number.to(tl.float64) / (before + some).to(tl.float64)
    within += squares + delta * delta * (before.to(tl.float64) * share)
    tl.store(rows + k, tl.full(k.shape, 0, tl.float64) + (before + number), mask=k < K)
    tl.store(rows + K + k, mean + delta * share, mask=k < K)
    tl.store(rows + 2 * K + k, within, mask=k < K)


@triton.jit(do_not_specialize=("C", "per_group", "splits"))
def conv3d_statistics_merge_kernel(
    partial,  # [B, splits, 3, C] float64: voxels, mean, sum of squares about it
    mean,  # [B, G]
    rstd,  # [B, G]
    C,
    per_group,
    splits,
    eps: tl.float64,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    # one program per (group, sample)
    g, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    mu = tl.zeros((), tl.float64)
    m = tl.zeros((), tl.float64)
    squares = tl.zeros((), tl.float64)
    for start in range(0, splits, BLOCK_N):
        for first in range(0, per_group, BLOCK_C):
            number, value, _ = rows_of(
                partial, b, g, start, first, C, per_group, splits, BLOCK_N, BLOCK_C
            )
            m += tl.sum(number)
            mu += tl.sum(number * value)
    mu /= m
    for start in range(0, splits, BLOCK_N):
        for first in range(0, per_group, BLOCK_C):
            number, value, within = rows_of(
                partial, b, g, start, first, C, per_group, splits, BLOCK_N, BLOCK_C
            )
            squares += tl.sum(within + number * (value - mu) * (value - mu))
    to = b * (C // per_group) + g
    tl.store(mean + to, mu.to(mean.dtype.element_ty))
    tl.store(rstd + to, (1 / tl.sqrt(squares / m + eps)).to(rstd.dtype.element_ty))


@triton.jit
def rows_of(
    partial, b, g, start, first, C, per_group, splits, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr
):
    """[BLOCK_N, BLOCK_C] of each row: splits from `start` on, channels of group g from `first`."""
    n = start + tl.arange(0, BLOCK_N)
    c = first + tl.arange(0, BLOCK_C)
    valid = (n < splits)[:, None] & (c < per_group)[None, :]
    at = partial + (b * splits + n)[:, None] * 3 * C + (g * per_group + c)[None, :]
    return (
        tl.load(at, mask=valid, other=0),
        tl.load(at + C, mask=valid, other=0),
        tl.load(at + 2 * C, mask=valid, other=0),
    )


def conv3d_statistics(
    partial: Tensor,  # [B, splits, 3, C] float64 of a convolution
    num_groups: int,
    eps: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Mean and (variance + eps)^-1/2 of the groups of the volume written, [B, G] each."""
    batch, splits, _, channels = partial.shape
    mean, rstd = (partial.new_empty((batch, num_groups), dtype=dtype) for _ in range(2))
    with torch.cuda.device_of(partial):
        conv3d_statistics_merge_kernel[num_groups, batch](
            *(partial, mean, rstd, channels, channels // num_groups, splits, eps),
            BLOCK_N=_SPLITS,
            BLOCK_C=_CHANNELS,
            **OPTIONS,
        )
    return mean, rstd
