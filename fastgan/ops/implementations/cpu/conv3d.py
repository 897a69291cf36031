"""Compiled kernels of `conv3d` where PyTorch's library is weak: on tensors, without derivatives.

Between one channel and 16 n: the library pads the one, and its input gradient costs ten times its
forward. Of several channels, without AVX-512: for the weight gradient the library unfolds the
volume and multiplies matrices, a strided input gradient is slow where channels are few, and a
forward where its outputs are small volumes, of which many taps lie in the padding.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    return extension.unfit("conv3d", x, "cpu", DTYPES)


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


def single_fprop(
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


def single_dgrad(
    g: Tensor, weight: Tensor, d_x: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Write the gradient of x for the gradient g of y into d_x, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d.
        weight: as in `single_fprop`.
        d_x: [B, 1, D, H, W] contiguous; written.
        stride: as in `single_fprop`.
        padding: as in `single_fprop`.

    Raises:
        ValueError, TypeError, RuntimeError: as `single_fprop`.

    Deterministic: yes, for any number of threads.
    Cost: flops as `single_fprop`, 16 / (kH kW) as many with three taps; g kD / stride times.
    """
    loaded().conv_single_dgrad(g, weight, d_x, stride, padding, torch.get_num_threads())
    return d_x


def single_wgrad(
    g: Tensor, x: Tensor, d_weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Write the gradient of the weight for the gradient g of y into d_weight, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d.
        x: [B, 1, D, H, W] contiguous.
        d_weight: [K, 1, kD, kH, kW] contiguous; written.
        stride: as in `single_fprop`.
        padding: as in `single_fprop`.

    Raises:
        ValueError, TypeError, RuntimeError: as `single_fprop`.

    Deterministic: yes, for any number of threads.
    Cost: flops as `single_fprop`, 4 / kW as many; g and x once.
    """
    loaded().conv_single_wgrad(g, x, d_weight, stride, padding, torch.get_num_threads())
    return d_weight


def serves_packed_wgrad(
    channels: int, kernel: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether `packed_wgrad` takes x of so many channels, and beats the library at it here."""
    if groups != 1 or channels < 4 or extension.reason() is not None or loaded().isa() == "avx512":
        return False
    if channels % LANES == 0:
        return True
    return LANES % channels == 0 and kernel[2] % (LANES // channels) == 0 and dilation[2] == 1


def serves_packed_fprop(
    weight: Sequence[int], width: int, dilation: Sequence[int], groups: int
) -> bool:
    """Whether `packed_fprop` takes a weight [K, C, kD, kH, kW], and beats the library at it here.

    `width` is W', the outputs side by side.
    """
    channels_out, channels_in, *kernel = weight
    if groups != 1 or channels_in < 4 or dilation[2] != 1 or kernel[2] == 1 or width > NARROW:
        return False
    if extension.reason() is not None or loaded().isa() == "avx512":
        return False
    return channels_out % LANES == 0 and channels_out > 0


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
    if extension.reason() is not None or loaded().isa() == "avx512":
        return False
    return along * channels % LANES == 0 and kernel[2] % along == 0


def packed_fprop(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the convolution of x and weight into y, and return y.

    Args:
        x: [B, C, D, H, W] channels_last_3d float32 or bfloat16 on the CPU.
        weight: [K, C, kD, kH, kW] channels_last_3d, K a multiple of 16.
        bias: [K] or None.
        y: [B, K, D', H', W'] channels_last_3d; written.
        stride: at least 1 for each axis.
        padding: zeros on both sides of each axis.
        dilation: at least 1 for each axis, 1 along W.

    Raises:
        ValueError, TypeError, RuntimeError: as `single_fprop`.

    Deterministic: yes, for any number of threads.
    Cost: 2 B K C kD kH kW D' H' W' flops, less what lies in the padding along D and H; float32
        copies of x and of the weight.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_fprop(x, weight, bias, y, *geometry, torch.get_num_threads())
    return y


def packed_dgrad(
    g: Tensor,
    weight: Tensor,
    d_x: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the gradient of x for the gradient g of y into d_x, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d float32 or bfloat16 on the CPU.
        weight: [K, C, kD, kH, kW] channels_last_3d; the stride along W divides kW, undilated there,
            and makes a multiple of 16 of C.
        d_x: [B, C, D, H, W] channels_last_3d; written.
        stride: at least 1 for each axis.
        padding: zeros on both sides of each axis.
        dilation: at least 1 for each axis.

    Raises:
        ValueError, TypeError, RuntimeError: as `single_fprop`.

    Deterministic: yes, for any number of threads.
    Cost: 2 B K C kD kH kW D' H' W' flops; float32 copies of g and of the weight.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_dgrad(g, weight, d_x, *geometry, torch.get_num_threads())
    return d_x


def packed_wgrad(
    g: Tensor,
    x: Tensor,
    d_weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Write the gradient of the weight for the gradient g of y into d_weight, and return it.

    Args:
        g: [B, K, D', H', W'] channels_last_3d float32 or bfloat16 on the CPU.
        x: [B, C, D, H, W] likewise; C a multiple of 16, or a divisor whose product with kW is one
            (undilated along W).
        d_weight: [K, C, kD, kH, kW] channels_last_3d; written.
        stride: at least 1 for each axis.
        padding: zeros on both sides of each axis.
        dilation: at least 1 for each axis.

    Raises:
        ValueError, TypeError, RuntimeError: as `single_fprop`.

    Deterministic: yes, for any number of threads.
    Cost: 2 B K C kD kH kW D' H' W' flops; blocks of g are packed kD C / 16 times and of x kD K / 32
        times, in the cache; one float32 sum a weight and slice of g, at most 64 slices.
    """
    geometry = (stride, padding, dilation)
    loaded().conv_packed_wgrad(g, x, d_weight, *geometry, torch.get_num_threads())
    return d_weight
