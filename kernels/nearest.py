"""Squared Euclidean distances by direct differences, split over features and pairs.

A first pass over all pairs is exact for integers and, for floats, off by a known share; the second
one sums chosen pairs in float64. What a pair gets in the second pass depends on its two rows alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.tiles import OPTIONS

__all__ = ["ROUNDING", "SEGMENT", "SMALLEST", "all_pairs", "chosen_pairs"]

# Features whose sum is one number: enough programs for a GPU where a few volumes are compared.
SEGMENT = 1 << 16
# Features of a step, of both passes; lanes of a program are features.
_STEP = 512
# Bound of what the first pass is off by in floats, as a share of the squared distance: a lane adds
# SEGMENT / _STEP squares in float32, each of a rounded difference; lanes are added in float64.
ROUNDING = (SEGMENT // _STEP + 8) * 2.0**-24
# And in addition, for each feature: squares below the smallest normal float32 may become zero.
SMALLEST = 2.0**-125
# Pairs that one program of a merge holds.
_MERGED = 256


@triton.jit
def nearest_all_pairs_kernel(
    query,  # [N, F]
    target,  # [M, F]
    partial,  # [splits, N, M]
    N,
    M,
    F,
    SEGMENT: tl.constexpr,
    DIFFERENCE: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    # one program per (block of targets of a block of queries, split); one lane per feature of a
    # step. The grid's first dimension alone goes beyond 65,535.
    blocks = tl.cdiv(M, BLOCK_M)
    i = tl.program_id(0) // blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(1).to(tl.int64)
    f = tl.arange(0, BLOCK_F)
    # Rows past the end repeat the last one and are not stored.
    x = query + tl.minimum(i, N - 1).to(tl.int64)[:, None, None] * F + split * SEGMENT
    y = target + tl.minimum(j, M - 1).to(tl.int64)[None, :, None] * F + split * SEGMENT
    count = tl.minimum(F - split * SEGMENT, SEGMENT).to(tl.int32)
    squares = tl.zeros((BLOCK_N, BLOCK_M, BLOCK_F), SUM)
    for start in range(0, count, BLOCK_F):
        at = (start + f)[None, None, :]
        valid = at < count
        a = tl.load(x + at, mask=valid, other=0).to(DIFFERENCE)
        b = tl.load(y + at, mask=valid, other=0).to(DIFFERENCE)
        d = (a - b).to(SUM)
        squares += d * d
    total = tl.sum(squares.to(partial.dtype.element_ty), 2)
    to = partial + (split * N + i.to(tl.int64)[:, None]) * M + j[None, :]
    tl.store(to, total, mask=(i < N)[:, None] & (j < M)[None, :])


@triton.jit
def nearest_chosen_pairs_kernel(
    query,  # [N, F]
    target,  # [M, F]
    row,  # [P] into query
    column,  # [P] into target
    partial,  # [splits, P] float64
    P,
    F,
    SEGMENT: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    # one program per (pair, split); one lane per feature of a step
    pair = tl.program_id(0)
    split = tl.program_id(1).to(tl.int64)
    x = query + tl.load(row + pair) * F + split * SEGMENT
    y = target + tl.load(column + pair) * F + split * SEGMENT
    count = tl.minimum(F - split * SEGMENT, SEGMENT).to(tl.int32)
    f = tl.arange(0, BLOCK_F)
    squares = tl.zeros((BLOCK_F,), tl.float64)
    for start in range(0, count, BLOCK_F):
        at = start + f
        a = tl.load(x + at, mask=at < count, other=0).to(tl.float64)
        b = tl.load(y + at, mask=at < count, other=0).to(tl.float64)
        squares += (a - b) * (a - b)
    tl.store(partial + split * P + pair, tl.sum(squares, 0))


@triton.jit
def nearest_merge_kernel(
    partial,  # [splits, P]
    total,  # [P]
    P,
    splits,
    BLOCK: tl.constexpr,
):
    # one program per block of pairs, which adds the splits in their order
    pair = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = pair < P
    value = tl.load(partial + pair, mask=valid, other=0)
    for split in range(1, splits):
        value += tl.load(partial + split * P + pair, mask=valid, other=0)
    tl.store(total + pair, value, mask=valid)


def all_pairs(query: Tensor, target: Tensor) -> Tensor:
    """Squared distances of all pairs.

    Args:
        query: [N, F] contiguous; floating, uint8, int8 or int16.
        target: [M, F] contiguous, likewise.

    Returns:
        [N, M] float64, off by at most ROUNDING of itself and SMALLEST F; for float64 input by less
        than a part in 10^12. Integers give int64, exact.

    Cost: M F reads for each block of 4 queries, 2 N M F flops in float32 (float64 for float64) or
        as many integer operations.
    """
    (rows, features), columns = query.shape, len(target)
    splits = triton.cdiv(features, SEGMENT)
    whole = not query.is_floating_point()
    wide = query.dtype in (torch.int16, torch.float64)
    if whole:
        # 17 bits squared fit 64 bits at once, 9 bits squared 32 bits over a segment
        difference, total = tl.int32, tl.int64 if wide else tl.int32
    else:
        difference = total = tl.float64 if wide else tl.float32
    block_n = min(4, triton.next_power_of_2(rows))
    block_m = 2 if wide else 4
    kind = torch.int64 if whole else torch.float64
    partial = torch.empty((splits, rows, columns), dtype=kind, device=query.device)
    grid = (triton.cdiv(columns, block_m) * triton.cdiv(rows, block_n), splits)
    with torch.cuda.device_of(query):
        nearest_all_pairs_kernel[grid](
            *(query, target, partial, rows, columns, features),
            SEGMENT=SEGMENT,
            DIFFERENCE=difference,
            SUM=total,
            BLOCK_N=block_n,
            BLOCK_M=block_m,
            BLOCK_F=_STEP,
            **OPTIONS,
        )
    return _merged(partial)


def chosen_pairs(query: Tensor, target: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Squared distances of chosen pairs of floating rows, in float64.

    Args:
        query: [N, F] contiguous, floating.
        target: [M, F] contiguous, likewise.
        row: [P] int64 into query, P < 2^31.
        column: [P] int64 into target.

    Returns:
        [P] float64.

    Cost: 2 P F reads, 2 P F flops in float64.
    """
    features, pairs = query.shape[1], len(row)
    splits = triton.cdiv(features, SEGMENT)
    partial = torch.empty((splits, pairs), dtype=torch.float64, device=query.device)
    if pairs:
        with torch.cuda.device_of(query):
            nearest_chosen_pairs_kernel[(pairs, splits)](
                *(query, target, row, column, partial, pairs, features),
                SEGMENT=SEGMENT,
                BLOCK_F=_STEP,
                **OPTIONS,
            )
    return _merged(partial)


def _merged(partial: Tensor) -> Tensor:
    """[splits, ...] to [...]."""
    if len(partial) == 1 or partial.numel() == 0:
        return partial[0]
    total = torch.empty_like(partial[0])
    grid = (triton.cdiv(total.numel(), _MERGED),)
    with torch.cuda.device_of(partial):
        nearest_merge_kernel[grid](
            partial, total, total.numel(), len(partial), BLOCK=_MERGED, **OPTIONS
        )
    return total
