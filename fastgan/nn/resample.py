"""Resampling by whole strides that keeps channels_last_3d in all derivatives.

torch's avg_pool3d and the backward of its nearest interpolation return NCDHW tensors, which costs
a transpose in every pass of a channels-last network; these work on the NDHWC view axis by axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.nn.choices import check_choice

__all__ = ["average_pool", "upsample"]

MODES = ("nearest", "trilinear")


def upsample(x: Tensor, strides: Sequence[int], mode: str = "nearest") -> Tensor:
    """Enlarge each spatial axis by its stride.

    Args:
        x: [B, C, D, H, W].
        strides: three factors, each >= 1.
        mode: "nearest" repeats voxels, "trilinear" interpolates (corners not aligned).

    Returns:
        [B, C, D * s0, H * s1, W * s2], channels_last_3d.

    Derivatives: all orders (torch ops). Deterministic: nearest always; trilinear on a GPU not.
    """
    check_choice("upsample: mode", mode, MODES)
    if mode == "trilinear":
        scale = [float(s) for s in strides]
        y = functional.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)
        return y.contiguous(memory_format=torch.channels_last_3d)
    y = x.permute(0, 2, 3, 4, 1)
    # The last axis first: its copy is the smallest.
    for axis in (2, 1, 0):
        if strides[axis] > 1:
            y = y.unsqueeze(2 + axis)
            repeats = [strides[axis] if i == 2 + axis else -1 for i in range(y.dim())]
            y = y.expand(repeats).flatten(1 + axis, 2 + axis)
    return y.permute(0, 4, 1, 2, 3)


def average_pool(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Mean over blocks of `strides` voxels.

    Args:
        x: [B, C, D, H, W], each spatial axis a multiple of its stride.
        strides: three block lengths, each >= 1.

    Returns:
        [B, C, D / s0, H / s1, W / s2], in the layout of x.

    Derivatives: all orders (torch ops). Deterministic: yes.
    """
    y = x.permute(0, 2, 3, 4, 1)
    for axis, stride in enumerate(strides):
        if stride > 1:
            y = torch.unflatten(y, 1 + axis, (-1, stride)).mean(2 + axis)
    return y.permute(0, 4, 1, 2, 3)
