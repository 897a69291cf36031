"""Blocks of voxels as channels, and back: what brings one-channel volumes to efficient widths.

A convolution from or to one channel uses a sixteenth of a vector machine at best: its time is the
volume's memory traffic. Folding 2x2x2 blocks gives eight channels on an eighth of the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from fastgan.ops.checks import require, require_tensors, triple
from fastgan.ops.implementations import dispatch
from fastgan.ops.registration import Grads, operator

__all__ = ["fold", "unfold"]


def fold(x: Tensor, factors: int | Sequence[int]) -> Tensor:
    """Move blocks of voxels into channels.

    Args:
        x: [B, C, D, H, W] of any dtype, each spatial axis a multiple of its factor.
        factors: block lengths f0, f1, f2, each >= 1.

    Returns:
        [B, f0 f1 f2 C, D / f0, H / f1, W / f2], channels_last_3d: a copy, x itself where all
        factors are 1. Channel ((i f1 + j) f2 + k) C + c is channel c of voxel (i, j, k) of the
        block.

    Raises:
        ConfigError: x is not 5-dimensional, or an axis is no multiple of its factor.

    Derivatives: every order: the derivative of fold is unfold and the other way round.
    Deterministic: yes, a permutation.
    Cost: one read and one write of x.
    Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient
        Sub-Pixel Convolutional Neural Network, 2016, equation 4 reversed.

    >>> fold(torch.arange(8.0).view(1, 1, 2, 2, 2), 2).flatten()
    tensor([0., 1., 2., 3., 4., 5., 6., 7.])
    """
    factors = _checked("fold", x, factors)
    for axis, (size, factor) in enumerate(zip(x.shape[2:], factors, strict=True)):
        rule = f"spatial axis {axis} must be a multiple of its factor {factor}"
        require(size % factor == 0, "fold", rule, size)
    if math.prod(factors) == 1:
        return x
    y: Tensor = fold_fwd(x, factors)
    return y


def unfold(x: Tensor, factors: int | Sequence[int]) -> Tensor:
    """The inverse of `fold`.

    Args:
        x: [B, f0 f1 f2 C, D, H, W] of any dtype.
        factors: f0, f1, f2, each >= 1.

    Returns:
        [B, C, D f0, H f1, W f2], channels_last_3d: a copy, x itself where all factors are 1.

    Raises:
        ConfigError: x is not 5-dimensional, or its channels are no multiple of f0 f1 f2.

    Derivatives: every order; the derivative is `fold`.
    Deterministic: yes, a permutation.
    Cost: one read and one write of x.

    >>> x = torch.randn(2, 16, 3, 4, 5)
    >>> torch.equal(fold(unfold(x, 2), 2), x)
    True
    """
    factors = _checked("unfold", x, factors)
    block = math.prod(factors)
    rule = f"channels must be a multiple of f0 f1 f2 = {block}"
    require(x.shape[1] % block == 0, "unfold", rule, x.shape[1])
    if block == 1:
        return x
    y: Tensor = unfold_fwd(x, factors)
    return y


def _checked(op: str, x: Tensor, factors: int | Sequence[int]) -> list[int]:
    require_tensors(op, x=x)
    require(x.dim() == 5, op, "x must be [B, C, D, H, W]", list(x.shape))
    return list(triple(op, "factors", factors, 1))


def _fold(x: Tensor, factors: list[int]) -> Tensor:
    y: Tensor = dispatch.module("fold", x).fold(x, factors)
    return _own(y, x)


def _unfold(x: Tensor, factors: list[int]) -> Tensor:
    y: Tensor = dispatch.module("fold", x).unfold(x, factors)
    return _own(y, x)


def _own(y: Tensor, x: Tensor) -> Tensor:
    """An operator returns memory of its own, where moving axes of length 1 alone gave a view."""
    # A tensor without data, of a program that is only traced, may be copied once more.
    traced = isinstance(y, FakeTensor)
    return y.clone() if traced or y.data_ptr() == x.data_ptr() else y


def _folded(x: Tensor, factors: list[int]) -> Tensor:
    b, c, *sizes = x.shape
    d, h, w = (n // f for n, f in zip(sizes, factors, strict=True))
    return x.new_empty((b, d, h, w, c * math.prod(factors))).permute(0, 4, 1, 2, 3)


def _unfolded(x: Tensor, factors: list[int]) -> Tensor:
    b, channels, *sizes = x.shape
    d, h, w = (n * f for n, f in zip(sizes, factors, strict=True))
    return x.new_empty((b, d, h, w, channels // math.prod(factors))).permute(0, 4, 1, 2, 3)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.factors = inputs[1]


def _fold_backward(ctx: Any, g: Tensor) -> Grads:
    return unfold_fwd(g, ctx.factors), None


def _unfold_backward(ctx: Any, g: Tensor) -> Grads:
    return fold_fwd(g, ctx.factors), None


fold_fwd = operator(
    "fold_fwd(Tensor x, int[] factors) -> Tensor",
    kernel=_fold,
    fake=_folded,
    setup_context=_setup,
    backward=_fold_backward,
)
unfold_fwd = operator(
    "unfold_fwd(Tensor x, int[] factors) -> Tensor",
    kernel=_unfold,
    fake=_unfolded,
    setup_context=_setup,
    backward=_unfold_backward,
)
