"""Where the passes of a convolution between 16 n channels are Triton's.

Of these kernels what a trial proves is taken and nothing else: kernels, strides and dtype here. All
else is left to the library, forced or not. Without Triton nothing is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from fastgan.ops.checks import memory_format
from fastgan.ops.implementations import dispatch

__all__ = ["CHANNELS", "GEOMETRIES", "kernels_for"]

CHANNELS = 16
# Kernel and stride along every axis.
GEOMETRIES = ((1, 1), (3, 1), (4, 2))
_CUBES = [((k, k, k), (s, s, s)) for k, s in GEOMETRIES]


def kernels_for(
    op: str,
    operand: Tensor,  # any of the pass; tells device, dtype and layout
    x: Sequence[int],  # [B, C, D, H, W] of the convolution's input
    weight: Sequence[int],  # [K, C / groups, kD, kH, kW]
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> ModuleType | None:
    """`implementations.triton.conv3d` where it has, and should run, a pass; None: the library."""
    if (tuple(weight[2:]), tuple(stride)) not in _CUBES or max(dilation) > 1 or groups > 1:
        return None
    if any(n % CHANNELS or not n for n in weight[:2]) or not operand.numel():
        return None
    # A GPU's trial is of bfloat16: see `implementations.triton.conv3d`.
    if operand.device.type != "cpu" and operand.dtype != torch.bfloat16:
        return None
    if memory_format(operand) != torch.channels_last_3d:
        return None
    found = dispatch.offered(op, "triton", operand)
    return found if found and found.serves(x, weight, stride, padding) else None
