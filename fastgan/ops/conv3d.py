"""3D convolution whose derivatives of every order are three true kernels: see `conv3d_passes`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastgan.ops.casts import cast
from fastgan.ops.checks import Triple, floating, require, require_tensors, same_place, triple
from fastgan.ops.conv3d_passes import conv_fprop, output_size

__all__ = ["checked_conv3d", "conv3d"]


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """3D cross-correlation, as torch.nn.functional.conv3d, with fast second derivatives.

    Args:
        x: input [B, C, D, H, W], floating.
        weight: [K, C / groups, kD, kH, kW], dtype and device of x.
        bias: [K] or None.
        stride: voxels between two outputs, >= 1; int or one for each of D, H, W.
        padding: zeros added on both sides, >= 0; int or one for each of D, H, W.
        dilation: voxels between two taps, >= 1; int or one for each of D, H, W.
        groups: input channels split into this many independent convolutions.

    Returns:
        [B, K, D', H', W'] with D' = (D + 2 padding - dilation (kD - 1) - 1) // stride + 1, in
        the memory format of x; channels_last_3d where x has one channel.

    Raises:
        ConfigError: shapes, dtypes, devices or settings that do not fit.

    Derivatives: every order; the backward is the two other operators of the family. Gradients
        nobody asked for are not computed.
    Deterministic: as PyTorch's convolution.
    Cost: 2 B K (C / groups) kD kH kW D' H' W' flops a pass.
    Autocast: computes in autocast's dtype.

    >>> import torch
    >>> y = conv3d(torch.ones(1, 2, 4, 4, 4), torch.ones(3, 2, 2, 2, 2), stride=2)
    >>> y.shape, y.unique().tolist()
    (torch.Size([1, 3, 2, 2, 2]), [16.0])
    """
    geometry = checked_conv3d(x, weight, bias, stride, padding, dilation, groups)
    bias = None if bias is None else cast(bias, bias.dtype)
    y: Tensor = conv_fprop(x, cast(weight, weight.dtype), bias, *geometry)
    return y


def checked_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    dilation: int | Sequence[int],
    groups: int,
) -> tuple[Triple, Triple, Triple, int]:
    """Stride, padding, dilation and groups of a convolution, or ConfigError: see `conv3d`."""
    op = "conv3d"
    require_tensors(op, x=x, weight=weight)
    require(x.dim() == 5, op, "x must be [B, C, D, H, W]", list(x.shape))
    require(weight.dim() == 5, op, "weight must be [K, C, kD, kH, kW]", list(weight.shape))
    floating(op, "x", x)
    same_place(op, "weight", weight, x)
    strides, dilations = triple(op, "stride", stride, 1), triple(op, "dilation", dilation, 1)
    paddings = triple(op, "padding", padding, 0)
    require(groups >= 1, op, "groups must be >= 1", groups)
    require(
        x.shape[1] == weight.shape[1] * groups and weight.shape[0] % groups == 0,
        op,
        f"weight must be [K, {x.shape[1]} / groups, ...] with K divisible by groups = {groups}",
        list(weight.shape),
    )
    size = output_size(x.shape[2:], weight.shape[2:], strides, paddings, dilations)
    require(min(size) >= 1, op, "x must be at least as large as the kernel", list(x.shape))
    if bias is not None:
        require_tensors(op, bias=bias)
        require(bias.shape == weight.shape[:1], op, "bias must be [K]", list(bias.shape))
        same_place(op, "bias", bias, x)
    return strides, paddings, dilations, groups
