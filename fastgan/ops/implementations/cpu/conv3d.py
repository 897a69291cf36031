"""The compiled kernels of `conv3d`, where PyTorch's library is weak.

Between one channel and 16 n: the library pads the one, and its input gradient costs ten times its
forward. Of several channels, without AVX-512: for the weight gradient the library unfolds the
volume and multiplies matrices, a strided input gradient is slow where channels are few, and a
forward where its outputs are small volumes, of which many taps lie in the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded

__all__ = [
    "DTYPES",
    "SERVES",
    "packed_dgrad",
    "packed_fprop",
    "packed_wgrad",
    "serves_packed_dgrad",
    "serves_packed_fprop",
    "serves_packed_wgrad",
    "serves_single",
    "single_dgrad",
    "single_fprop",
    "single_wgrad",
    "supports",
]

LANES = 16
# Outputs along W up to which the own forward is the faster one.
NARROW = 4
DTYPES = (torch.float32, torch.bfloat16)
# "single": one channel of x and 16 n of y; "packed": several of both, packed into lanes.
SINGLE = "one channel to or from 16 n (3 or 4 taps, stride 1 or 2)"
SERVES = f"{extension.named(DTYPES)}: {SINGLE}; without AVX-512 some passes of several channels"
supports = partial(extension.unfit, "conv3d", "cpu", DTYPES)


def serves_single(
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether the single kernels take a weight [K, C, kD, kH, kW], and a geometry."""
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


def serves_packed_fprop(
    weight: Sequence[int], width: int, dilation: Sequence[int], groups: int
) -> bool:
    """Whether `packed_fprop` takes a weight [K, C, kD, kH, kW], and beats the library at it here.

    `width` is W', the outputs side by side.
    """
    channels_out, channels_in, *kernel = weight
    if groups != 1 or channels_in < 4 or dilation[2] != 1 or kernel[2] == 1 or width > NARROW:
        return False
    return _without_avx512() and channels_out % LANES == 0 and channels_out > 0


def serves_packed_dgrad(
    channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether `packed_dgrad` takes x of so many channels, and beats the library at it here."""
    along = stride[2]
    if groups != 1 or channels < 4 or along == 1 or dilation[2] != 1:
        return False
    return _without_avx512() and along * channels % LANES == 0 and kernel[2] % along == 0


def serves_packed_wgrad(
    channels: int, kernel: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether `packed_wgrad` takes x of so many channels, and beats the library at it here."""
    if groups != 1 or channels < 4 or not _without_avx512():
        return False
    if channels % LANES == 0:
        return True
    return LANES % channels == 0 and kernel[2] % (LANES // channels) == 0 and dilation[2] == 1


def _without_avx512() -> bool:
    return extension.reason() is None and loaded().isa() != "avx512"


def single_fprop(
    x: Tensor,  # [B, 1, D, H, W] contiguous
    weight: Tensor,  # [K, 1, kD, kH, kW] contiguous
    bias: Tensor | None,  # [K]
    y: Tensor,  # [B, K, D', H', W'] channels_last_3d
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Write the convolution of x and weight into y, and return y.

    Cost: 2 B K kD kH kW D' H' W' flops; x and y once, and a padded float32 copy of x.
    """
    loaded().conv_single_fprop(x, weight, bias, y, stride, padding, torch.get_num_threads())
    return y


def single_dgrad(
    g: Tensor,  # [B, K, D', H', W'] channels_last_3d
    weight: Tensor,  # [K, 1, kD, kH, kW] contiguous
    d_x: Tensor,  # [B, 1, D, H, W] contiguous
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Write the gradient of x for the gradient g of y into d_x, and return it.

    Cost: flops as `single_fprop`, 16 / (kH kW) as many with three taps; g kD / stride times.
    """
    loaded().conv_single_dgrad(g, weight, d_x, stride, padding, torch.get_num_threads())
    return d_x


def single_wgrad(
    g: Tensor,  # [B, K, D', H', W'] channels_last_3d
    x: Tensor,  # [B, 1, D, H, W] contiguous
    d_weight: Tensor,  # [K, 1, kD, kH, kW] contiguous
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Write the gradient of the weight for the gradient g of y into d_weight, and return it.

    Cost: flops as `single_fprop`, 4 / kW as many; g and x once.
    """
    loaded().conv_single_wgrad(g, x, d_weight, stride, padding, torch.get_num_threads())
    return d_weight


def packed_fprop(
    x: Tensor,  # [B, C, D, H, W] channels_last_3d
    weight: Tensor,  # [K, C, kD, kH, kW] channels_last_3d
    bias: Tensor | None,  # [K]
    y: Tensor,  # [B, K, D', H', W'] channels_last_3d
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the convolution of x and weight into y, and return y.

    Cost: 2 B K C kD kH kW D' H' W' flops, less what lies in the padding along D and H; float32
        copies of x and of the weight.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_fprop(x, weight, bias, y, *geometry, torch.get_num_threads())
    return y


def packed_dgrad(
    g: Tensor,  # [B, K, D', H', W'] channels_last_3d
    weight: Tensor,  # [K, C, kD, kH, kW] channels_last_3d
    d_x: Tensor,  # [B, C, D, H, W] channels_last_3d
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the gradient of x for the gradient g of y into d_x, and return it.

    Cost: 2 B K C kD kH kW D' H' W' flops; float32 copies of g and of the weight.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_dgrad(g, weight, d_x, *geometry, torch.get_num_threads())
    return d_x


def packed_wgrad(
    g: Tensor,  # [B, K, D', H', W'] channels_last_3d
    x: Tensor,  # [B, C, D, H, W] channels_last_3d
    d_weight: Tensor,  # [K, C, kD, kH, kW] channels_last_3d
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the gradient of the weight for the gradient g of y into d_weight, and return it.

    Cost: 2 B K C kD kH kW D' H' W' flops; blocks of g are packed kD C / 16 times and of x kD K / 32
        times, in the cache; one float32 sum a weight and slice of g, at most 64 slices.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_wgrad(g, x, d_weight, *geometry, torch.get_num_threads())
    return d_weight
