"""The kernel of a 3D convolution and of its input gradient: every output gathers its taps.

An implicit matrix product: BLOCK_M outputs times BLOCK_K channels, summed over taps and channels
read. In the input gradient along a stride, outputs whose position leaves the same remainder meet
the same taps; such a class is a convolution at stride 1, and no sum is scattered.
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
    *("PD", "PH", "PW", "chunk"),
)


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
    chunk,  # tiles of a program
    x_slope: tl.float64,
    slope: tl.float64,
    KD: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    SD: tl.constexpr,
    SH: tl.constexpr,
    SW: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    # one program per (chunk of tiles of outputs of a class, block of channels, sample)
    blocks = tl.cdiv(K, BLOCK_K)
    split, splits = tl.program_id(0) // blocks, tl.num_programs(0) // blocks
    b = tl.program_id(1).to(tl.int64)
    C, K = C // 16 * 16, K // 16 * 16
    k = tl.program_id(0) % blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    c = tl.arange(0, BLOCK_C)
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
        y_mu, y_scale, y_shift = normalisation(*of_norm, b, k, K, per_group)
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
        rw, first_w, at_w, count_w, taps_w = class_of(which % SW, OW, PW, KW, SW)
    else:
        rd, first_d, at_d, count_d, taps_d = 0, 0, -PD, OD, KD
        rh, first_h, at_h, count_h, taps_h = 0, 0, -PH, OH, KH
        rw, first_w, at_w, count_w, taps_w = 0, 0, -PW, OW, KW
    direction: tl.constexpr = -1 if TRANSPOSED else 1
    count = count_d * count_h * count_w
    if partial is not None:
        rows: tl.constexpr = 3 if y_z is None else 2 if y_g is None else 5
        partial += (b * splits + split) * rows * K
        for line in tl.static_range(rows):
            tl.store(partial + line * K + k, tl.zeros((BLOCK_K,), tl.float64), mask=k < K)
        tl.debug_barrier()
    # What a loop keeps in registers it must not keep for the next one.
    last = min(part * chunk + chunk, tl.cdiv(count, BLOCK_M))
    for tile in tl.range(part * chunk, last, disable_licm=True):
        m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        inside = m < count
        m_w = m % count_w
        m_h = m // count_w % count_h
        m_d = m // count_w // count_h
        from_d, from_h, from_w = at_d + m_d, at_h + m_h, at_w + m_w
        if not TRANSPOSED:
            from_d, from_h, from_w = at_d + m_d * SD, at_h + m_h * SH, at_w + m_w * SW
        # Four bits an axis: which of its taps lie in the volume.
        bits = tl.zeros((BLOCK_M,), tl.int32)
        for tap in tl.static_range(KD):
            i = from_d + direction * tap
            bits |= ((i >= 0) & (i < D) & inside).to(tl.int32) << tap
        for tap in tl.static_range(KH):
            i = from_h + direction * tap
            bits |= ((i >= 0) & (i < H)).to(tl.int32) << (4 + tap)
        for tap in tl.static_range(KW):
            i = from_w + direction * tap
            bits |= ((i >= 0) & (i < W)).to(tl.int32) << (8 + tap)
        base = ((from_d * H + from_h) * W + from_w) * C
        total = tl.zeros((BLOCK_M, BLOCK_K), accumulator)
        for start in range(0, C, BLOCK_C):
            if coefficients is not None:
                rows_c = coefficient_rows(coefficients, start + c, C)
            elif mean is not None and y_z is None:
                mu, scale, shift = normalisation(*of_norm, b, start + c, C, per_group)
            origin = tl.zeros((), tl.int32)
            jd, jh, jw = origin, origin, origin
            for _ in range(taps_d * taps_h * taps_w):
                valid = ((bits >> jd) & (bits >> (4 + jh)) & (bits >> (8 + jw)) & 1) != 0
                away = direction * ((jd * H + jh) * W + jw) * C + start
                at = (base + away)[:, None] + c[None, :]
                a = tl.load(x + at, mask=valid[:, None], other=0)
                if coefficients is not None:
                    z = tl.load(x_z + at, mask=valid[:, None], other=0).to(accumulator)
                    value = before_norm(a.to(accumulator), z, rows_c, x_slope, valid)
                    a = value.to(a.dtype)
                elif mean is not None and y_z is None:
                    value = activated(a.to(accumulator), mu, scale, shift, slope, valid)
                    a = value.to(a.dtype)
                if TRANSPOSED:
                    number = ((rd + SD * jd) * KH + rh + SH * jh) * KW + rw + SW * jw
                    row = (start + c) * (KD * KH * KW * K) + number * K
                    weights = w + row[:, None] + k[None, :]
                else:
                    number = (jd * KH + jh) * KW + jw
                    row = k * (KD * KH * KW * C) + number * C + start
                    weights = w + row[None, :] + c[:, None]
                weights = tl.load(weights, mask=(k < K)[None, :], other=0)
                total = tl.dot(a, weights, total, input_precision=PRECISION, out_dtype=accumulator)
                jw += 1
                jh += (jw == taps_w).to(tl.int32)
                jw = tl.where(jw == taps_w, 0, jw)
                jd += (jh == taps_h).to(tl.int32)
                jh = tl.where(jh == taps_h, 0, jh)
        if bias is not None:
            total += tl.load(bias + k, mask=k < K, other=0).to(accumulator)[None, :]
        to_d, to_h, to_w = m_d, m_h, m_w
        if TRANSPOSED:
            to_d, to_h, to_w = first_d + m_d * SD, first_h + m_h * SH, first_w + m_w * SW
        to = (((to_d * OH + to_h) * OW + to_w) * K)[:, None] + k[None, :]
        mask = inside[:, None] & (k < K)[None, :]
        tl.store(y + to, total.to(y.dtype.element_ty), mask=mask)
        if partial is not None:
            # Read again, as later passes read it: rounded, and with whole rows of few channels in a
            # thread, where the tensor cores' sums lie scattered.
            tl.debug_barrier()
            value = tl.load(y + to, mask=mask, other=0).to(accumulator)
            if y_z is None:
                before = (tile - part * chunk) * BLOCK_M
                number = tl.minimum(count - tile * BLOCK_M, BLOCK_M)
                add_statistics(partial, k, K, value, mask, before, number)
            else:
                centred = tl.load(y_z + to, mask=mask, other=0).to(accumulator) - y_mu
                above = tl.fma(centred, y_scale, y_shift) > 0
                below = tl.full((), slope, accumulator)
                u = value
                if y_g is not None:
                    u = tl.load(y_g + to, mask=mask, other=0).to(accumulator)
                u = tl.where(above, u, u * below)
                add(partial, k, K, u)
                add(partial + K, k, K, u * centred)
                if y_g is not None:
                    add(partial + 2 * K, k, K, value)
                    add(partial + 3 * K, k, K, value * centred)
                    add(partial + 4 * K, k, K, value * u)


@triton.jit
def class_of(remainder, size, PAD, TAPS: tl.constexpr, STRIDE: tl.constexpr):
    """Of the outputs i along an axis with (i + PAD) % STRIDE == remainder: it, the first of them, the
    input that one meets at tap `remainder`, how many they are, and how many taps meet them.
    """
    first = (remainder + PAD * (STRIDE - 1)) % STRIDE
    taps = (TAPS - remainder + STRIDE - 1) // STRIDE
    count = (size - first + STRIDE - 1) // STRIDE
    return remainder, first, (first + PAD - remainder) // STRIDE, count, taps
