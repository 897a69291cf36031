"""The Triton convolutions between 16 n channels, bare and behind a norm: without derivatives.

`ops.conv3d_channels` says which of them operators take. On a GPU they are for bfloat16
alone. Of float32 they make three TF32 products, whose sums the tensor cores cut off: a trial holds
all dtypes together to PyTorch's own errors, so that float32 might cost bfloat16 its proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.implementations.extension import FLOATING, named
from fastgan.ops.implementations.layout import laid_out
from fastgan.ops.implementations.triton import runtime

__all__ = ["DTYPES", "SERVES", "dgrad", "fprop", "norm_of", "serves", "supports", "wgrad"]

_kernels: Any = None
if runtime.import_error is None:
    from fastgan.kernels import conv3d as _kernels  # type: ignore[no-redef]
    from fastgan.kernels.conv3d_tiles import obstacle

LAST = torch.channels_last_3d
DTYPES = (*FLOATING, torch.float16) if runtime.interpreted else (torch.bfloat16,)
SERVES = (
    f"{named(DTYPES) if DTYPES[1:] else 'bfloat16'}, channels_last_3d: 16 n channels on both sides,"
    " kernels of 1 or 3 at stride 1, of 4 at stride 2"
)
# What the kernels can read, for whoever asks with a tensor of no pass.
supports = partial(runtime.unfit, "conv3d", (*FLOATING, torch.float16))


def serves(
    x: Sequence[int], weight: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> bool:
    """Whether the kernels take such shapes: x [B, C, D, H, W], weight [K, C, kD, kH, kW]."""
    return obstacle(x, weight, stride, padding) is None


def norm_of(
    mean: Tensor,  # [B, G]
    rstd: Tensor,  # [B, G]
    weight: Tensor | None,  # [C] or [B, C]
    bias: Tensor | None,  # [C] or [B, C]
    num_groups: int,
    negative_slope: float,
) -> Any:
    """A norm and activation that a pass reads through."""
    dense = [None if t is None else t.contiguous() for t in (mean, rstd, weight, bias)]
    return _kernels.Norm(*dense, num_groups, negative_slope)


def fprop(
    x: Tensor,  # [B, C, D, H, W]
    weight: Tensor,  # [K, C, kD, kH, kW]
    bias: Tensor | None,  # [K]
    stride: Sequence[int],
    padding: Sequence[int],
    norm: Any = None,
) -> Tensor:  # [B, K, D', H', W'] channels_last_3d
    """Convolution of x, or of what `norm` makes of it."""
    y: Tensor = _gathered(x, weight, bias, stride, padding, None, norm)
    return y


def dgrad(
    g: Tensor,  # [B, K, D', H', W']
    weight: Tensor,  # [K, C, kD, kH, kW]
    bias: Tensor | None,  # [C]
    size: Sequence[int],  # D, H, W
    stride: Sequence[int],
    padding: Sequence[int],
    norm: Any = None,
) -> Tensor:  # [B, C, D, H, W] channels_last_3d
    """Transposed convolution of g, or of what `norm` makes of it."""
    return _gathered(g, weight, bias, stride, padding, size, norm)


def _gathered(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    size: Sequence[int] | None,
    norm: Any,
) -> Tensor:
    bias = None if bias is None else bias.contiguous()
    tensors = laid_out(x, LAST), laid_out(weight, LAST), bias
    y: Tensor = _kernels.conv3d_gather(*tensors, stride, padding, size=size, reading=norm)[0]
    return y


def wgrad(
    g: Tensor,  # [B, K, D', H', W']
    x: Tensor,  # [B, C, D, H, W]
    kernel: Sequence[int],  # kD, kH, kW
    stride: Sequence[int],
    padding: Sequence[int],
    norm: Any = None,
    of_g: bool = False,
) -> Tensor:  # [K, C, kD, kH, kW] channels_last_3d
    """Weight gradient, x or with `of_g` g being what `norm` makes of it."""
    tensors = laid_out(g, LAST), laid_out(x, LAST)
    d_weight: Tensor = _kernels.conv3d_wgrad(
        *tensors, kernel, stride, padding, norm=norm, of_g=of_g
    )
    return d_weight
