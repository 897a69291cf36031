"""Transposed 3D convolution: the input gradient of a convolution, used forwards.

The same three operators as `conv3d`; there is no kernel and no derivative of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastgan.ops.casts import cast
from fastgan.ops.checks import Triple, floating, require, require_tensors, same_place, triple
from fastgan.ops.conv3d_passes import conv_dgrad

__all__ = ["checked_conv_transpose3d", "conv_transpose3d"]


def conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
) -> Tensor:
    """Transposed 3D convolution, as torch.nn.functional.conv_transpose3d.

    Args:
        x: input [B, C, D, H, W], floating.
        weight: [C, K, kD, kH, kW], dtype and device of x.
        bias: [K] or None.
        stride: outputs between two inputs, >= 1; int or one for each of D, H, W.
        padding: outputs cut off on both sides, >= 0; int or one for each of D, H, W.
        output_padding: outputs kept at the far side, 0 <= output_padding < stride.

    Returns:
        [B, K, D', H', W'] with D' = (D - 1) stride - 2 padding + kD + output_padding, in the
        memory format of x; channels_last_3d where x has one channel or one voxel.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: every order, by the operators of `conv3d`. Gradients nobody asked for are not
        computed.
    Deterministic: as PyTorch's convolution.
    Cost: 2 B C K kD kH kW D H W flops a pass.
    Autocast: computes in autocast's dtype.

    >>> import torch
    >>> y = conv_transpose3d(torch.ones(1, 2, 2, 2, 2), torch.ones(2, 3, 2, 2, 2), stride=2)
    >>> y.shape, y.unique().tolist()
    (torch.Size([1, 3, 4, 4, 4]), [2.0])
    """
    size, strides, paddings = checked_conv_transpose3d(
        x, weight, bias, stride, padding, output_padding
    )
    kernel = cast(weight, weight.dtype)
    y: Tensor = conv_dgrad(x, kernel, size, strides, paddings, (1, 1, 1), 1)
    return y if bias is None else y + bias.to(y.dtype).view(1, -1, 1, 1, 1)


def checked_conv_transpose3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    output_padding: int | Sequence[int],
) -> tuple[list[int], Triple, Triple]:
    """D', H', W', stride and padding, or ConfigError: see `conv_transpose3d`."""
    op = "conv_transpose3d"
    require_tensors(op, x=x, weight=weight)
    require(x.dim() == 5, op, "x must be [B, C, D, H, W]", list(x.shape))
    require(
        weight.dim() == 5 and weight.shape[0] == x.shape[1],
        op,
        f"weight must be [{x.shape[1]}, K, kD, kH, kW]",
        list(weight.shape),
    )
    floating(op, "x", x)
    same_place(op, "weight", weight, x)
    strides, paddings = triple(op, "stride", stride, 1), triple(op, "padding", padding, 0)
    extra = triple(op, "output_padding", output_padding, 0)
    require(
        all(e < s for e, s in zip(extra, strides, strict=True)),
        op,
        f"output_padding must be smaller than stride {strides}",
        extra,
    )
    axes = zip(x.shape[2:], weight.shape[2:], strides, paddings, extra, strict=True)
    size = [(n - 1) * s - 2 * p + k + e for n, k, s, p, e in axes]
    require(min(size) >= 1, op, "padding must leave at least one output voxel", paddings)
    if bias is not None:
        require_tensors(op, bias=bias)
        require(bias.shape == weight.shape[1:2], op, "bias must be [K]", list(bias.shape))
        same_place(op, "bias", bias, x)
    return size, strides, paddings
