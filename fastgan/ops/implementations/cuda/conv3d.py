"""CUDA kernels of `conv3d` between one channel and 16 n: on tensors, without derivatives.

`implementations.cpu.conv3d` says which sizes they serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu.conv3d import SINGLE
from fastgan.ops.implementations.cuda import device, launch

__all__ = ["DTYPES", "SERVES", "single_dgrad", "single_fprop", "single_wgrad", "supports"]

DTYPES = (torch.float32, torch.bfloat16)
SERVES = f"{extension.named(DTYPES)}: {SINGLE}"
supports = partial(device.unfit, "conv3d", DTYPES)


def single_fprop(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """As `cpu.conv3d.single_fprop`.

    Cost: 2 B K kD kH kW D' H' W' flops; y once, x once and its overlaps of tiles.
    """
    launch.run("conv_single_fprop", x, weight, bias, stride, padding, launch.stream(x), y)
    return y


def single_dgrad(
    g: Tensor, weight: Tensor, d_x: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """As `cpu.conv3d.single_dgrad`; deterministic, without atomics.

    Cost: flops as `single_fprop`; g kD / stride times, of which the L2 cache spares memory all but
        one, d_x once.
    """
    launch.run("conv_single_dgrad", on_border(g), weight, stride, padding, launch.stream(g), d_x)
    return d_x


def single_wgrad(
    g: Tensor, x: Tensor, d_weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """As `cpu.conv3d.single_wgrad`; deterministic, without atomics.

    Cost: flops as `single_fprop`; g once, x K / 16 times, of which the L2 cache spares memory all
        but one, and at most 1024 partial sums of each weight.
    """
    g = on_border(g)
    geometry = (stride, padding)
    memory = launch.scratch(launch.kernels().conv_single_workspace(x, d_weight, g, *geometry), x)
    launch.run("conv_single_wgrad", g, x, *geometry, launch.stream(x), memory, d_weight)
    return d_weight


def on_border(g: Tensor) -> Tensor:
    """`g` itself where 16-byte reads may begin, else a copy, which torch puts on such a place."""
    return g if g.data_ptr() % 16 == 0 else g.clone()
