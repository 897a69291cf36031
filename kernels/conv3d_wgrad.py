"""The kernels of a 3D convolution's weight gradient: products over voxels, then their sum.

A matrix product of the two volumes, channels written times channels read, summed over voxels, once
for each tap. A program has one pair of taps along D and H and all taps along W: it walks places
along rows, loads what is normalised once for all of these taps and the other volume once for each.
Programs share the voxels; each writes its sums, and a second launch adds them in their order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastgan.kernels.conv3d_gather import product
from fastgan.kernels.conv3d_reading import activated
from fastgan.kernels.norm_act import normalisation

__all__ = ["conv3d_wgrad_kernel", "conv3d_wgrad_merge_kernel"]

# Numbers of which no value is a kernel of its own; 16 divides channels by construction.
SIZES = (
    *("gamma_stride", "beta_stride", "per_group", "D", "H", "W", "C", "OD", "OH", "OW", "K"),
    *("PD", "PH", "PW", "row", "chunk"),
)


@triton.jit(do_not_specialize=SIZES)
def conv3d_wgrad_kernel(
    g,  # [B, OD, OH, OW, K]
    x,  # [B, D, H, W, C]
    mean,  # [B, G] of the volume that is normalised, x or g; None: neither is
    rstd,  # [B, G]
    gamma,  # [G channels] or [B, the same]
    beta,  # like gamma
    partial,  # [B, splits, K, taps, C]
    gamma_stride,
    beta_stride,
    per_group,  # channels of a group
    D,
    H,
    W,
    C,
    OD,
    OH,
    OW,
    K,
    PD,
    PH,
    PW,
    row,  # places of a row: enough for its inputs and its outputs
    chunk,  # tiles of a program
    slope: tl.float64,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    ODD: tl.constexpr,  # padding along W that is no whole stride
    OF_G: tl.constexpr,  # g is loaded once for all taps along W, and normalised, else x
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One program per (chunk of tiles, blocks of channels, taps along D and H, sample)."""
    pair = tl.program_id(0) % (KD * KH)
    C, K = C // 16 * 16, K // 16 * 16
    blocks_c, blocks_k = tl.cdiv(C, BLOCK_C), tl.cdiv(K, BLOCK_K)
    rest = tl.program_id(0) // (KD * KH)
    c = rest % blocks_c * BLOCK_C + tl.arange(0, BLOCK_C)
    rest //= blocks_c
    k = rest % blocks_k * BLOCK_K + tl.arange(0, BLOCK_K)
    split = rest // blocks_k
    splits = tl.num_programs(0) // (KD * KH * blocks_c * blocks_k)
    b = tl.program_id(1).to(tl.int64)
    local = tl.arange(0, BLOCK_M)
    exact: tl.constexpr = x.dtype.element_ty == tl.float64
    accumulator: tl.constexpr = tl.float64 if exact else tl.float32
    kd, kh = pair // KH, pair % KH
    x += b * D * H * W * C
    g += b * OD * OH * OW * K
    if mean is not None:
        of_norm = mean, rstd, gamma, beta, gamma_stride, beta_stride
        if OF_G:
            rows = normalisation(*of_norm, b, k, K, per_group)
        else:
            rows = normalisation(*of_norm, b, c, C, per_group)
    # Of x a place at stride 2 has two inputs, its phases; of g it has one output.
    PHASES: tl.constexpr = 1 if OF_G else SW
    sum_0 = tl.zeros((BLOCK_K, BLOCK_C), accumulator)
    sum_1, sum_2, sum_3 = sum_0, sum_0, sum_0
    positions = OD * OH * row
    last = min(split * chunk + chunk, tl.cdiv(positions, BLOCK_M))
    for tile in range(split * chunk, last):
        place = tile * BLOCK_M + local
        s_w = place % row
        q_h = place // row % OH
        q_d = place // row // OH
        i_d, i_h = q_d * SD - PD + kd, q_h * SH - PH + kh
        over = (place < positions) & (i_d >= 0) & (i_d < D) & (i_h >= 0) & (i_h < H)
        x_row = (i_d * H + i_h) * W
        g_row = (q_d * OH + q_h) * OW
        for phase in tl.static_range(PHASES):
            if OF_G:
                valid = over & (s_w < OW)
                once = tl.load(
                    g + ((g_row + s_w) * K)[:, None] + k[None, :],
                    mask=valid[:, None] & (k < K)[None, :],
                    other=0,
                )
            else:
                i_w = s_w * PHASES + phase
                valid = over & (i_w < W)
                once = tl.load(
                    x + ((x_row + i_w) * C)[:, None] + c[None, :],
                    mask=valid[:, None] & (c < C)[None, :],
                    other=0,
                )
            if mean is not None:
                once = activated(once.to(accumulator), rows, slope, valid).to(once.dtype)
            for kw in tl.static_range(KW):
                if (kw + ODD) % PHASES == phase:
                    if OF_G:
                        i_w = s_w * SW - PW + kw
                        each = tl.load(
                            x + ((x_row + i_w) * C)[:, None] + c[None, :],
                            mask=(over & (i_w >= 0) & (i_w < W))[:, None] & (c < C)[None, :],
                            other=0,
                        )
                        left, right = once, each
                    else:
                        q_w = s_w + (PW + ODD) // SW - (kw + ODD) // SW
                        each = tl.load(
                            g + ((g_row + q_w) * K)[:, None] + k[None, :],
                            mask=(over & (q_w >= 0) & (q_w < OW))[:, None] & (k < K)[None, :],
                            other=0,
                        )
                        left, right = each, once
                    if kw == 0:
                        sum_0 = product(tl.trans(left), right, sum_0, PRECISION)
                    elif kw == 1:
                        sum_1 = product(tl.trans(left), right, sum_1, PRECISION)
                    elif kw == 2:
                        sum_2 = product(tl.trans(left), right, sum_2, PRECISION)
                    else:
                        sum_3 = product(tl.trans(left), right, sum_3, PRECISION)
    partial += (b * splits + split) * K * (KD * KH * KW) * C
    to = partial + ((k * (KD * KH) + pair) * KW * C)[:, None] + c[None, :]
    written = (k < K)[:, None] & (c < C)[None, :]
    tl.store(to, sum_0, mask=written)
    if KW > 1:
        tl.store(to + C, sum_1, mask=written)
    if KW > 2:
        tl.store(to + 2 * C, sum_2, mask=written)
    if KW > 3:
        tl.store(to + 3 * C, sum_3, mask=written)


@triton.jit(do_not_specialize=("splits", "elements"))
def conv3d_wgrad_merge_kernel(
    partial,  # [splits, elements]
    d_weight,  # [elements]
    splits,
    elements,  # a multiple of 16
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """One program per block of weights."""
    elements = elements // 16 * 16
    e = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_E,), tl.float64)
    for start in range(0, splits, BLOCK_N):
        at = (start + n).to(tl.int64)[:, None] * elements + e[None, :]
        mask = (start + n < splits)[:, None] & (e < elements)[None, :]
        total += tl.sum(tl.load(partial + at, mask=mask, other=0).to(tl.float64), 0)
    if d_weight.dtype.element_ty != tl.float64:
        # The interpreter knows no way from float64 to bfloat16.
        total = total.to(tl.float32)
    tl.store(d_weight + e, total.to(d_weight.dtype.element_ty), mask=e < elements)
