"""The operators of fastgan: PyTorch functions with exact, cheap second derivatives."""

from __future__ import annotations

from fastgan.ops.bias_act import bias_act
from fastgan.ops.conv3d import conv3d
from fastgan.ops.conv_transpose3d import conv_transpose3d
from fastgan.ops.fold import fold, unfold
from fastgan.ops.gradient_penalty import GradientPenalty, gradient_penalty
from fastgan.ops.group_statistics import group_statistics
from fastgan.ops.implementations.dispatch import implementation
from fastgan.ops.nearest import NearestIndex, Neighbours, Transform, nearest, nearest_stream
from fastgan.ops.norm_act import norm_act
from fastgan.ops.norm_act_conv import norm_act_conv, norm_act_conv_transpose
from fastgan.ops.smooth import smooth

__all__ = [
    "GradientPenalty",
    "NearestIndex",
    "Neighbours",
    "Transform",
    "bias_act",
    "conv3d",
    "conv_transpose3d",
    "fold",
    "gradient_penalty",
    "group_statistics",
    "implementation",
    "nearest",
    "nearest_stream",
    "norm_act",
    "norm_act_conv",
    "norm_act_conv_transpose",
    "smooth",
    "unfold",
]
