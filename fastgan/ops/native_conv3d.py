"""The compiled kernels of `conv3d` between one channel and 16 n, on tensors, without derivatives.

PyTorch's library pads the one channel, and its input gradient costs ten times its forward.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastgan.ops.native import loaded, supports

__all__ = ["DTYPES", "dgrad", "fprop", "serves", "supports", "wgrad"]

LANES = 16
DTYPES = (torch.float32, torch.bfloat16)


def serves(
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether the kernels take a weight [K, C, kD, kH, kW] of these sizes, and a geometry."""
    channels_out, channels_in, *kernel = weight
    return (
        channels_in == groups == 1
        and channels_out % LANES == 0
        and channels_out > 0
        and all(k in (3, 4) for k in kernel)
        and all(s in (1, 2) for s in stride)
        and all(p < k for p, k in zip(padding, kernel, strict=True))
        and all(d == 1 for d in dilation)
    )


def fprop(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Write the convolution of x and weight into y, and return y.

    Args:
        x: [B, 1, D, H, W] contiguous float32 or bfloat16 on the CPU.
        weight: [K, 1, kD, kH, kW] contiguous, K a multiple of 16, 3 or 4 taps along each axis.
        bias: [K] or None.
        y: [B, K, D', H', W'] channels_last_3d; written.
        stride: 1 or 2 for each axis.
        padding: zeros on both sides of each axis.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes, for any number of threads.
    Cost: 2 B K kD kH kW D' H' W' flops; x and y once, and a padded float32 copy of x.
    """
    loaded().conv_single_fprop(x, weight, bias, y, stride, padding, torch.get_num_threads())
    return y


def dgrad(
    g: Tensor, weight: Tensor, d_x: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Write the gradient of x for the gradient g of y into d_x, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d.
        weight: as in `fprop`.
        d_x: [B, 1, D, H, W] contiguous; written.
        stride: as in `fprop`.
        padding: as in `fprop`.

    Raises:
        ValueError, TypeError, RuntimeError: as `fprop`.

    Deterministic: yes, for any number of threads.
    Cost: flops as `fprop`, 16 / (kH kW) as many with three taps; g kD / stride times.
    """
    loaded().conv_single_dgrad(g, weight, d_x, stride, padding, torch.get_num_threads())
    return d_x


def wgrad(
    g: Tensor, x: Tensor, d_weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Write the gradient of the weight for the gradient g of y into d_weight, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d.
        x: [B, 1, D, H, W] contiguous.
        d_weight: [K, 1, kD, kH, kW] contiguous; written.
        stride: as in `fprop`.
        padding: as in `fprop`.

    Raises:
        ValueError, TypeError, RuntimeError: as `fprop`.

    Deterministic: yes, for any number of threads.
    Cost: flops as `fprop`, 4 / kW as many; g and x once.
    """
    loaded().conv_single_wgrad(g, x, d_weight, stride, padding, torch.get_num_threads())
    return d_weight
