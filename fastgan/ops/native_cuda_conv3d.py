"""CUDA kernels of `conv3d` between one channel and 16 n: on tensors, without derivatives.

Contracts as in `fastgan.ops.native_conv3d`, which says which sizes they serve, on tensors of a GPU;
kernels run on PyTorch's current stream of that device and nothing waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastgan.ops.native_cuda import kernels, run, scratch, stream, supports

__all__ = ["dgrad", "fprop", "supports", "wgrad"]


def fprop(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """As `native_conv3d.fprop`.

    Cost: 2 B K kD kH kW D' H' W' flops; y once, x once and its overlaps of tiles.
    """
    run("conv_single_fprop", x, weight, bias, stride, padding, stream(x), y)
    return y


def dgrad(
    g: Tensor, weight: Tensor, d_x: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """As `native_conv3d.dgrad`; deterministic, without atomics.

    Cost: flops as `fprop`; g kD / stride times, of which the L2 cache spares memory all but one,
        d_x once.
    """
    run("conv_single_dgrad", on_border(g), weight, stride, padding, stream(g), d_x)
    return d_x


def wgrad(
    g: Tensor, x: Tensor, d_weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """As `native_conv3d.wgrad`; deterministic, without atomics.

    Cost: flops as `fprop`; g once, x K / 16 times, of which the L2 cache spares memory all but one,
        and at most 1024 partial sums of each weight.
    """
    g = on_border(g)
    geometry = (stride, padding)
    memory = scratch(kernels().conv_single_workspace(x, d_weight, g, *geometry), x)
    run("conv_single_wgrad", g, x, *geometry, stream(x), memory, d_weight)
    return d_weight


def on_border(g: Tensor) -> Tensor:
    """`g` itself where 16-byte reads may begin, else a copy, which torch puts on such a place."""
    return g if g.data_ptr() % 16 == 0 else g.clone()
