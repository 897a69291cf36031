"""The kernel of a 3D convolution and of its input gradient: every output gathers its taps.

An implicit matrix product, voxels times channels written, summed over taps and channels read. A
program reads positions along rows of the input and multiplies each with the taps along W that it
meets, a sum for each distance between input and output; at the end the sums are moved to their
outputs and added. So what is read is normalised once for all taps of a row. In the input gradient
along a stride, outputs whose place leaves the same remainder meet the same taps: such a class is a
convolution at stride 1, and no sum is scattered.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastgan.kernels.conv3d_reading import activated, before_norm, coefficient_rows
from fastgan.kernels.conv3d_sums import add, add_statistics
from fastgan.kernels.norm_act import normalisation

__all__ = ["conv3d_gather_kernel"]

# Numbers of which no value is a kernel of its own; 16 divides channels by construction.
SIZES = (
    *("gamma_stride", "beta_stride", "per_group", "D", "H", "W", "C", "OD", "OH", "OW", "K"),
    *("PD", "PH", "PW", "row", "chunk"),
)
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit(do_not_specialize=SIZES)
def conv3d_gather_kernel(
    x,  # [B, D, H, W, C]
    x_z,  # like x, with coefficients: x is then the gradient behind norm and activation
    coefficients,  # [B, 6, C]
    w,  # [K, taps, C], of an input gradient [C, taps, K]
    bias,  # [K]
    y,  # [B, OD, OH, OW, K]
    y_z,  # like y: the input of the norm whose sums are wanted; None: the norm is that of x
    y_g,  # like y: gradient behind that norm's activation, where y is its second derivative's v
    mean,  # [B, G]
    rstd,  # [B, G]
    gamma,  # [G channels] or [B, the same]
    beta,  # like gamma
    partial,  # [B, splits, rows, K] float64: see `conv3d_sums`
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
    row,  # positions of a row: enough for its inputs and its outputs
    chunk,  # tiles of a program
    x_slope: tl.float64,
    slope: tl.float64,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    ODD: tl.constexpr,  # padding along W that is no whole stride
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One program per (chunk of tiles of positions of a class, block of channels, sample)."""
    blocks = tl.cdiv(K, BLOCK_K)
    split, splits = tl.program_id(0) // blocks, tl.num_programs(0) // blocks
    b = tl.program_id(1).to(tl.int64)
    C, K = C // 16 * 16, K // 16 * 16
    k = tl.program_id(0) % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    c = tl.arange(0, BLOCK_C)
    local = tl.arange(0, BLOCK_M)
    exact: tl.constexpr = x.dtype.element_ty == tl.float64
    accumulator: tl.constexpr = tl.float64 if exact else tl.float32
    of_norm = mean, rstd, gamma, beta, gamma_stride, beta_stride
    x += b * D * H * W * C
    y += b * OD * OH * OW * K
    if coefficients is not None:
        x_z += b * D * H * W * C
        coefficients += b * 6 * C
    if y_z is not None:
        y_z += b * OD * OH * OW * K
    if y_g is not None:
        y_g += b * OD * OH * OW * K
    # Of each axis: remainder of the class, its first output and that one's input at tap 0, how many
    # outputs and taps it has.
    part, per_class = split, splits
    if TRANSPOSED:
        per_class = splits // (SD * SH * SW)
        part = split % per_class
        which = split // per_class
        rd, first_d, at_d, count_d, taps_d = class_of(which // (SH * SW), OD, PD, KD, SD)
        rh, first_h, at_h, count_h, taps_h = class_of(which // SW % SH, OH, PH, KH, SH)
        rw, first_w, at_w, count_w, _ = class_of(which % SW, OW, PW, KW, SW)
    else:
        rd, first_d, at_d, count_d, taps_d = 0, 0, -PD, OD, KD
        rh, first_h, at_h, count_h, taps_h = 0, 0, -PH, OH, KH
        rw, first_w, at_w, count_w = 0, 0, -PW, OW
    direction: tl.constexpr = -1 if TRANSPOSED else 1
    # Along W an output at place q meets inputs at places q + nearest to q + nearest + SUMS - 1; at
    # stride 2 a place has two inputs, its phases.
    PHASES: tl.constexpr = 1 if TRANSPOSED else SW
    TAPS: tl.constexpr = (KW + SW - 1) // SW if TRANSPOSED else KW
    SUMS: tl.constexpr = TAPS if TRANSPOSED else (KW - 1 + ODD) // SW + 1
    nearest = at_w - TAPS + 1 if TRANSPOSED else -((PW + ODD) // SW)
    STEP: tl.constexpr = BLOCK_M - SUMS + 1
    positions = count_d * count_h * row
    if partial is not None:
        rows: tl.constexpr = 3 if y_z is None else 2 if y_g is None else 5
        partial += (b * splits + split) * rows * K
        for line in tl.static_range(rows):
            tl.store(partial + line * K + k, tl.zeros((BLOCK_K,), tl.float64), mask=k < K)
        tl.debug_barrier()
    seen = tl.zeros((), tl.int32)
    # What a loop keeps in registers it must not keep for the next one.
    last = min(part * chunk + chunk, tl.cdiv(positions, STEP))
    for tile in tl.range(part * chunk, last, disable_licm=True):
        place = tile * STEP + nearest + local
        inside = (place >= 0) & (place < positions)
        s_w = place % row
        s_h = place // row % count_h
        s_d = place // row // count_h
        from_d, from_h = at_d + s_d, at_h + s_h
        if not TRANSPOSED:
            from_d, from_h = at_d + s_d * SD, at_h + s_h * SH
        # Four bits an axis: which of its taps lie in the volume.
        bits = tl.zeros((BLOCK_M,), tl.int32)
        for tap in tl.static_range(KD):
            i = from_d + direction * tap
            bits |= ((i >= 0) & (i < D) & inside).to(tl.int32) << tap
        for tap in tl.static_range(KH):
            i = from_h + direction * tap
            bits |= ((i >= 0) & (i < H)).to(tl.int32) << (4 + tap)
        base = ((from_d * H + from_h) * W + s_w * PHASES) * C
        sum_0 = tl.zeros((BLOCK_M, BLOCK_K), accumulator)
        sum_1, sum_2, sum_3 = sum_0, sum_0, sum_0
        for start in range(0, C, BLOCK_C):
            if coefficients is not None:
                rows_c = coefficient_rows(coefficients, start + c, C)
            elif mean is not None and y_z is None:
                rows_c = normalisation(*of_norm, b, start + c, C, per_group)
            jd = tl.zeros((), tl.int32)
            jh = tl.zeros((), tl.int32)
            for _ in range(taps_d * taps_h):
                over = ((bits >> jd) & (bits >> (4 + jh)) & 1) != 0
                for phase in tl.static_range(PHASES):
                    valid = over & (s_w * PHASES + phase < W)
                    away = (direction * (jd * H + jh) * W + phase) * C + start
                    at = (base + away)[:, None] + c[None, :]
                    a = tl.load(x + at, mask=valid[:, None], other=0)
                    if coefficients is not None:
                        z = tl.load(x_z + at, mask=valid[:, None], other=0).to(accumulator)
                        a = before_norm(a.to(accumulator), z, rows_c, x_slope, valid)
                    elif mean is not None and y_z is None:
                        a = activated(a.to(accumulator), rows_c, slope, valid)
                    a = a.to(x.dtype.element_ty)
                    for jw in tl.static_range(TAPS):
                        if (jw + ODD) % PHASES == phase:
                            if TRANSPOSED:
                                kw = rw + SW * (TAPS - 1 - jw)
                                number = ((rd + SD * jd) * KH + rh + SH * jh) * KW + kw
                                from_row = (start + c) * (KD * KH * KW * K) + number * K
                                weights = w + from_row[:, None] + k[None, :]
                                known = k < tl.where(kw < KW, K, 0)
                            else:
                                number = (jd * KH + jh) * KW + jw
                                from_row = k * (KD * KH * KW * C) + number * C + start
                                weights = w + from_row[None, :] + c[:, None]
                                known = k < K
                            weights = tl.load(weights, mask=known[None, :], other=0)
                            if (jw + ODD) // PHASES == 0:
                                sum_0 = product(a, weights, sum_0, PRECISION)
                            elif (jw + ODD) // PHASES == 1:
                                sum_1 = product(a, weights, sum_1, PRECISION)
                            elif (jw + ODD) // PHASES == 2:
                                sum_2 = product(a, weights, sum_2, PRECISION)
                            else:
                                sum_3 = product(a, weights, sum_3, PRECISION)
                jh += 1
                jd += (jh == taps_h).to(tl.int32)
                jh = tl.where(jh == taps_h, 0, jh)
        place = tile * STEP + local
        q_w = place % row
        q_h = place // row % count_h
        q_d = place // row // count_h
        total = moved(sum_0, 0, q_w + nearest, row, BLOCK_M)
        if SUMS > 1:
            total += moved(sum_1, 1, q_w + nearest + 1, row, BLOCK_M)
        if SUMS > 2:
            total += moved(sum_2, 2, q_w + nearest + 2, row, BLOCK_M)
        if SUMS > 3:
            total += moved(sum_3, 3, q_w + nearest + 3, row, BLOCK_M)
        if bias is not None:
            total += tl.load(bias + k, mask=k < K, other=0).to(accumulator)[None, :]
        to_d, to_h, to_w = q_d, q_h, q_w
        if TRANSPOSED:
            to_d, to_h, to_w = first_d + q_d * SD, first_h + q_h * SH, first_w + q_w * SW
        to = (((to_d * OH + to_h) * OW + to_w) * K)[:, None] + k[None, :]
        written = (local < STEP) & (place < positions) & (q_w < count_w)
        mask = written[:, None] & (k < K)[None, :]
        tl.store(y + to, total.to(y.dtype.element_ty), mask=mask)
        if partial is not None:
            # Read again, as later passes read it: rounded, and with whole rows of few channels in a
            # thread, where the tensor cores' sums lie scattered.
            tl.debug_barrier()
            value = tl.load(y + to, mask=mask, other=0).to(accumulator)
            if y_z is None:
                number = tl.sum(written.to(tl.int32), 0)
                add_statistics(partial, k, K, value, mask, seen, number)
                seen += number
            else:
                mu, scale, shift = normalisation(*of_norm, b, k, K, per_group)
                centred = tl.load(y_z + to, mask=mask, other=0).to(accumulator) - mu
                u = value
                if y_g is not None:
                    u = tl.load(y_g + to, mask=mask, other=0).to(accumulator)
                below = tl.full((), slope, accumulator)
                u = tl.where(tl.fma(centred, scale, shift) > 0, u, u * below)
                add(partial, k, K, u)
                add(partial + K, k, K, u * centred)
                if y_g is not None:
                    add(partial + 2 * K, k, K, value)
                    add(partial + 3 * K, k, K, value * centred)
                    add(partial + 4 * K, k, K, value * u)


@triton.jit
def product(a, weights, sums, PRECISION: tl.constexpr):
    """Add a weights to sums on tensor cores; products of bfloat16 and float16 are exact."""
    if INTERPRETED:
        # The interpreter would multiply the bits of bfloat16.
        a, weights = a.to(sums.dtype), weights.to(sums.dtype)
    return tl.dot(a, weights, sums, PRECISION, out_dtype=sums.dtype)


@triton.jit
def moved(sums, distance, place, row, BLOCK_M: tl.constexpr):
    """Sums [BLOCK_M, BLOCK_K] of inputs to the outputs a distance before them; 0 beyond the row."""
    here = tl.minimum(tl.arange(0, BLOCK_M) + distance, BLOCK_M - 1)
    index = here[:, None] + tl.zeros(sums.shape, tl.int32)
    kept = ((place >= 0) & (place < row))[:, None]
    return tl.where(kept, tl.gather(sums, index, 0), 0)


@triton.jit
def class_of(remainder, size, PAD, TAPS: tl.constexpr, STRIDE: tl.constexpr):
    """Of the outputs i along an axis with (i + PAD) % STRIDE == remainder: it, the first of them,
    the input that one meets at tap `remainder`, how many they are, and how many taps meet them.
    """
    first = (remainder + PAD * (STRIDE - 1)) % STRIDE
    taps = (TAPS - remainder + STRIDE - 1) // STRIDE
    count = (size - first + STRIDE - 1) // STRIDE
    return remainder, first, (first + PAD - remainder) // STRIDE, count, taps
