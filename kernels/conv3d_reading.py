"""How a convolution's kernels read a volume and what they sum of the one they write.

A volume [B, C, D, H, W] is read as it is, normalised and activated, or as the gradient that arrives
behind a norm and activation, changed into the one before them. So none of these is ever stored. The
sums are those that the merges of `norm_act` take; formulas and names are of csrc/core/norm_act.h.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fastgan.kernels.norm_act import row_stride

__all__ = ["Norm", "NormGradient", "Reading", "norm_arguments", "reading_arguments"]


class Norm(NamedTuple):
    """Normalisation, affine map and LeakyReLU of a raw volume z."""

    mean: Tensor  # [B, G] contiguous, float32 (float64 for float64 z)
    rstd: Tensor  # [B, G] contiguous
    weight: Tensor | None  # [C] or [B, C] contiguous; None: 1
    bias: Tensor | None  # [C] or [B, C] contiguous; None: 0
    num_groups: int
    negative_slope: float


class NormGradient(NamedTuple):
    """What turns the gradient behind norm and activation into that of their input z."""

    z: Tensor  # [B, C, D, H, W] like the gradient
    coefficients: Tensor  # [B, 6, C] of `norm_act_bwd_coefficients`
    negative_slope: float


Reading = Norm | NormGradient | None


def norm_arguments(norm: Norm | None, channels: int) -> tuple[object, ...]:
    """A kernel's arguments mean, rstd, gamma, beta, their strides, channels of a group, slope."""
    if norm is None:
        return None, None, None, None, 0, 0, 1, 0.0
    strides = row_stride(norm.weight), row_stride(norm.bias)
    return *norm[:4], *strides, channels // norm.num_groups, norm.negative_slope


def reading_arguments(reading: Reading) -> tuple[object, ...]:
    """A kernel's arguments for the second volume: it, its coefficients, the slope."""
    if isinstance(reading, NormGradient):
        return tuple(reading)
    return None, None, 0.0


@triton.jit
def activated(value, rows, slope, valid):
    """LeakyReLU of the normalised value, rounded as in every pass of `norm_act`; 0 in the padding.

    Rows of the padding, not `valid` [BLOCK_M], are multiplied by 0 along with the slope: choosing
    among rounded values would take three instructions an element.
    """
    mu, scale, shift = rows
    inside = tl.where(valid, tl.full((), 1, value.dtype), 0)
    z = tl.fma(value - mu, scale, shift)
    return z * tl.where(z > 0, inside[:, None], (inside * tl.full((), slope, value.dtype))[:, None])


@triton.jit
def coefficient_rows(coefficients, c, C):
    """Six [1, BLOCK_C] at channels c, all of them inside: of u, of z - mean, 1, and a `row` each of
    mean, scale and shift.
    """
    return (
        tl.load(coefficients + c)[None, :],
        tl.load(coefficients + C + c)[None, :],
        tl.load(coefficients + 2 * C + c)[None, :],
        tl.load(coefficients + 3 * C + c)[None, :],
        tl.load(coefficients + 4 * C + c)[None, :],
        tl.load(coefficients + 5 * C + c)[None, :],
    )


@triton.jit
def before_norm(g, z, rows, slope, valid):
    """Gradient of z from the gradient g behind norm and activation; 0 in the padding."""
    of_u, of_centred, of_one, mu, scale, shift = rows
    inside = tl.where(valid, tl.full((), 1, g.dtype), 0)
    centred = z - mu
    u = g * tl.where(tl.fma(centred, scale, shift) > 0, 1, tl.full((), slope, g.dtype))
    return inside[:, None] * tl.fma(u, of_u, tl.fma(centred, of_centred, of_one))
