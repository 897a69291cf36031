"""Resampling by whole strides that keeps channels_last_3d in all derivatives, and smoothing.

torch's avg_pool3d and the backward of its nearest interpolation return NCDHW tensors, which costs
a transpose in every pass of a channels-last network; these work on the NDHWC view axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastgan.nn.choices import check_choice
from fastgan.ops import smooth

__all__ = ["Smooth3d", "average_pool", "upsample"]

MODES = ("nearest", "trilinear")


def upsample(
    x: Tensor,
    strides: Sequence[int],
    mode: str = "nearest",
    left_over: Sequence[int] = (0, 0, 0),
) -> Tensor:
    """Enlarge each spatial axis by its stride.

    Args:
        x: [B, C, D, H, W].
        strides: three factors, each >= 1.
        mode: "nearest" repeats voxels, "trilinear" interpolates (corners not aligned).
        left_over: further voxels at the far side of each axis, repeats of the last one.

    Returns:
        [B, C, D * s0 + l0, H * s1 + l1, W * s2 + l2], channels_last_3d.

    Derivatives: all orders (torch ops). Deterministic: nearest always; trilinear on a GPU not.
    """
    check_choice("upsample: mode", mode, MODES)
    if mode == "trilinear":
        scale = [float(s) for s in strides]
        y = functional.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)
        return _lengthened(y.permute(0, 2, 3, 4, 1), left_over).contiguous().permute(0, 4, 1, 2, 3)
    y = x.permute(0, 2, 3, 4, 1)
    # The last axis first: its copy is the smallest.
    for axis in (2, 1, 0):
        if strides[axis] > 1:
            y = y.unsqueeze(2 + axis)
            repeats = [strides[axis] if i == 2 + axis else -1 for i in range(y.dim())]
            y = y.expand(repeats).flatten(1 + axis, 2 + axis)
    return _lengthened(y, left_over).permute(0, 4, 1, 2, 3)


def _lengthened(y: Tensor, left_over: Sequence[int]) -> Tensor:
    """NDHWC with the last voxels of each axis repeated."""
    for axis, extra in enumerate(left_over, start=1):
        if extra:
            repeats = [extra if i == axis else -1 for i in range(y.dim())]
            y = torch.cat([y, y.narrow(axis, -1, 1).expand(repeats)], axis)
    return y


def average_pool(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Mean over blocks of `strides` voxels; what is left over joins the last block of its axis.

    Args:
        x: [B, C, D, H, W], each spatial axis at least its stride.
        strides: three block lengths, each >= 1.

    Returns:
        [B, C, D // s0, H // s1, W // s2], in the layout of x.

    Derivatives: all orders (torch ops). Deterministic: yes.
    """
    y = x.permute(0, 2, 3, 4, 1)
    for axis, stride in enumerate(strides):
        if stride > 1:
            y = _pooled(y, 1 + axis, stride)
    return y.permute(0, 4, 1, 2, 3)


def _pooled(y: Tensor, axis: int, stride: int) -> Tensor:
    length = y.shape[axis]
    if length % stride == 0:
        return torch.unflatten(y, axis, (-1, stride)).mean(axis + 1)
    # One block longer than the others.
    whole = (length // stride - 1) * stride
    last = y.narrow(axis, whole, length - whole).mean(axis, keepdim=True)
    return torch.cat([_pooled(y.narrow(axis, 0, whole), axis, stride), last], axis)


class Smooth3d(nn.Module):
    """`ops.smooth` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, D, H, W] -> the same shape."""
        return smooth(x)
