"""What the convolution's Triton kernels serve, and how they cut it into tiles of programs.

Tiles and splits depend on shapes and on the GPU's shared memory alone, and sums meet in a fixed
order, so results are the same bits in every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.kernels.tiles import OPTIONS

__all__ = [
    "DTYPES",
    "MERGED",
    "PRECISIONS",
    "SHARED",
    "Cut",
    "checked",
    "gather_cut",
    "obstacle",
    "output_size",
    "shared_memory",
    "wgrad_cut",
]

# float64 is for tests, in the interpreter.
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
# Of products of float32: three TF32 products, meant to keep float32's digits; one; or none.
PRECISIONS = ("tf32x3", "tf32", "ieee")
# Taps an axis: their places in the volume are four bits.
_TAPS, _STRIDES = (1, 3, 4), (1, 2)
# Channels of a tensor core's step; also what makes every access 16 bytes wide.
_CHANNELS = 16
# Bytes of shared memory that a block of an H100 may have; what is taken where no GPU says less.
SHARED = 232448
# About four programs for each of an H100's 132 multiprocessors, beyond which they take several
# tiles: fewer partial sums.
_PROGRAMS = 512
# Partial sums and weights that a program of a weight gradient's merge holds: rows of 256 bytes.
MERGED = (16, 64)
# The second dimension of a grid, which counts samples.
_MOST_PROGRAMS = 65535
_MOST_ELEMENTS = 2**31


class Cut(NamedTuple):
    """Tile of a program, and how many there are."""

    block_m: int  # positions along rows
    block_n: int  # channels written
    block_k: int  # channels read in a step; of a weight gradient, in all
    warps: int
    stages: int  # steps that are read at once
    chunk: int  # tiles of a program
    splits: int  # chunks of a sample

    @property
    def options(self) -> dict[str, int | bool]:
        """Of a launch."""
        return {**OPTIONS, "num_warps": self.warps, "num_stages": self.stages}


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, ...]:
    """D', H', W' of a convolution."""
    axes = zip(size, kernel, stride, padding, strict=True)
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in axes)


def obstacle(
    x: Sequence[int],  # [B, C, D, H, W] of the convolution's input
    weight: Sequence[int],  # [K, C, kD, kH, kW]
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> str | None:
    """Why these kernels cannot take a convolution of such shapes: None when they can."""
    what = None
    if len(x) != 5 or len(weight) != 5 or x[1] != weight[1] * groups:
        what = f"x [B, C, D, H, W] and weight [K, C, kD, kH, kW], got {[*x]} and {[*weight]}"
    elif set(dilation) != {1} or groups != 1:
        what = f"dilation 1 and groups 1, got {[*dilation]} and {groups}"
    elif weight[0] % _CHANNELS or weight[1] % _CHANNELS:
        what = f"multiples of {_CHANNELS} channels, got {weight[1]} and {weight[0]}"
    elif any(k not in _TAPS for k in weight[2:]) or any(s not in _STRIDES for s in stride):
        what = f"kernels of 1, 3 or 4 and strides of 1 or 2, got {[*weight[2:]]} and {[*stride]}"
    elif any(not 0 <= p < k for p, k in zip(padding, weight[2:], strict=True)):
        what = f"padding from 0 to below the kernel {[*weight[2:]]}, got {[*padding]}"
    elif x[0] > _MOST_PROGRAMS:
        what = f"at most {_MOST_PROGRAMS:,} samples, got {x[0]:,}"
    if what is None:
        size = output_size(x[2:], weight[2:], stride, padding)
        most = max(math.prod(x[1:]), weight[0] * math.prod(size), math.prod(weight))
        if most >= _MOST_ELEMENTS:
            what = f"samples and weights of fewer than 2^31 elements, got {most:,}"
        elif min(size) < 1:
            what = f"volumes no smaller than the kernel, got {[*x[2:]]}"
    return None if what is None else f"conv3d has Triton kernels for {what}"


def checked(
    x: Sequence[int],
    weight: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    precision: str,
    *volumes: Tensor | None,
) -> None:
    """Raises ConfigError where kernels cannot take a convolution, or one of its volumes."""
    if reason := obstacle(x, weight, stride, padding):
        raise ConfigError(reason)
    given = [v for v in volumes if v is not None]
    for v in given:
        if v.dtype not in DTYPES or v.dtype != given[0].dtype or v.device != given[0].device:
            raise ConfigError(
                "conv3d has Triton kernels for bfloat16, float16 and float32, all of a kind on one"
                f" device, got {given[0].dtype} on {given[0].device} and {v.dtype} on {v.device}"
            )
        if not v.is_contiguous(memory_format=torch.channels_last_3d):
            raise ConfigError(
                "conv3d has Triton kernels for channels_last_3d, got strides"
                f" {v.stride()} of {tuple(v.shape)}"
            )
    if precision not in PRECISIONS:
        raise ConfigError(f"conv3d: precision must be one of {PRECISIONS}, got {precision!r}")


def shared_memory(device: torch.device) -> int:
    """Bytes that a block may have there."""
    if device.type != "cuda":
        return SHARED
    index = torch.cuda.current_device() if device.index is None else device.index
    return int(triton.runtime.driver.active.utils.get_device_properties(index)["max_shared_mem"])


def gather_cut(
    positions: int,  # of a class of a sample: rows x places of a row
    samples: int,  # samples x classes
    channels: tuple[int, int],  # read, written
    sums: int,  # distances along W between an output and its inputs
    loads: tuple[int, int],  # of a step: tiles of the input, tiles of weights
    changed: bool,  # what is read is normalised, or a gradient made one before a norm
    width: int,  # bytes of an element
    shared: int,  # bytes of shared memory
) -> Cut:
    """Tiles of a convolution or its input gradient."""
    read, written = channels
    # What fills the registers: the sums, of 64 channels for three distances or of 128 for one; and
    # what is changed when read, or float32, which its three products take apart there.
    narrow = changed or width > 2
    block_n = (128 if sums == 1 else 64) // (2 if narrow else 1)
    block_n = min(block_n, int(triton.next_power_of_2(written)))
    # At most a row of 128 bytes, which is what the tensor cores' layout of shared memory holds.
    block_k = math.gcd(read, 64 if not narrow else 32 if loads[0] == 1 else 16)
    # A fourth stage spills.
    block_m, stages = (64 if positions <= 64 - sums else 128), 3

    def needed() -> int:
        return (block_m * loads[0] + block_n * loads[1]) * block_k * width * stages

    while stages > 2 and needed() > shared:
        stages -= 1
    while block_k > 16 and needed() > shared:
        block_k //= 2
    _fits(needed(), shared)
    tiles = triton.cdiv(positions, block_m - sums + 1)
    programs = samples * triton.cdiv(written, block_n) * tiles
    chunk = max(1, programs // _PROGRAMS)
    warps = 8 if block_m * block_n * sums * (2 if narrow else 1) >= 128 * 64 else 4
    return Cut(block_m, block_n, block_k, warps, stages, chunk, triton.cdiv(tiles, chunk))


def wgrad_cut(
    places: int,  # of a sample: rows x places of a row
    samples: int,
    weight: Sequence[int],  # [K, C, kD, kH, kW]
    of: tuple[int, bool],  # tiles that are loaded for all taps along W; they are of g, else of x
    changed: bool,  # these are normalised
    width: int,  # bytes of an element
    shared: int,  # bytes of shared memory
) -> Cut:
    """Tiles of a weight gradient: places, channels of g, channels of x."""
    written, read, *kernel = weight
    taps = kernel[2]
    # The sums of up to four taps fill the registers, beside them what float32 is taken apart to.
    narrow = width > 2
    most = 32 if narrow else 64
    block_n = min(most // 2 if narrow and taps > 3 else most, int(triton.next_power_of_2(written)))
    block_k = min(most, int(triton.next_power_of_2(read)))
    once, each = (block_n, block_k) if of[1] else (block_k, block_n)
    block_m, stages = 16 if narrow else 64, 3

    def needed() -> int:
        return (of[0] * once + taps * each) * block_m * width * stages

    while stages > 2 and needed() > shared:
        stages -= 1
    while block_m > 16 and needed() > shared:
        block_m //= 2
    _fits(needed(), shared)
    tiles = triton.cdiv(places, block_m)
    blocks = triton.cdiv(written, block_n) * triton.cdiv(read, block_k)
    wanted = max(1, _PROGRAMS // (samples * blocks * kernel[0] * kernel[1]))
    chunk = triton.cdiv(tiles, wanted)
    warps = 8 if block_n * block_k * taps > 64 * 64 else 4
    return Cut(block_m, block_n, block_k, warps, stages, chunk, triton.cdiv(tiles, chunk))


def _fits(needed: int, shared: int) -> None:
    if needed > shared:
        raise ConfigError(
            f"conv3d has Triton kernels for {needed:,} bytes of shared memory, this GPU has"
            f" {shared:,}"
        )
