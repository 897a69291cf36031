"""How the norm's kernels cut a volume [B, C, S], channels first or last, into tiles of programs.

A pass over voxels has one program per (split of the voxels, block of channels, sample). Splits
depend on the shape alone, never on the GPU, so results are the same on each.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

__all__ = ["OPTIONS", "Groups", "Tiles", "groups", "place", "tiles"]

# Fusion of products and sums where their rounding decides nothing; the kink's is explicit.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
# About eight programs for each of an H100's 132 multiprocessors: enough reads in flight.
_PROGRAMS = 1024
# Channels last: two sectors of bfloat16 and more lie side by side.
_LEAST_CHANNELS, _MOST_CHANNELS = 16, 128
# Partial sums that one program of a merge holds, and channels of them: one sector of float32.
_MERGED, _MERGED_CHANNELS = 4096, 8


class Tiles(NamedTuple):
    """Sizes and strides that the kernels over voxels take; C to chunk in their order."""

    B: int
    C: int
    S: int
    K: int  # channels of a group
    stride_s: int  # elements between two voxels
    stride_c: int  # elements between two channels
    chunk: int  # voxels of a split, a multiple of block_s
    block_s: int
    block_c: int

    @property
    def splits(self) -> int:
        """Programs that share the voxels of a sample."""
        return int(triton.cdiv(self.S, self.chunk))

    @property
    def grid(self) -> tuple[int, int, int]:
        """Programs of a pass over voxels."""
        return self.splits, triton.cdiv(self.C, self.block_c), self.B

    @property
    def sizes(self) -> tuple[int, ...]:
        """Arguments of every kernel over voxels, its two block sizes at the end."""
        return self[1:]

    def one_each(self) -> Tiles:
        """The same tiles with a program for each: a pass that sums nothing needs no loop."""
        return self._replace(chunk=self.block_s)


class Groups(NamedTuple):
    """Blocks of a merge of partial sums."""

    grid: tuple[int, int]
    block_n: int  # splits
    block_g: int  # groups
    block_k: int  # channels of a group, at least K


def tiles(x: Tensor, num_groups: int, elements: int) -> Tiles:
    """Cut x.

    Args:
        x: [B, C, ...], contiguous with its channels first or last, not empty.
        num_groups: G, a divisor of C.
        elements: of a tile, a power of two.
    """
    batch, channels = x.shape[:2]
    voxels = x.numel() // (batch * channels)
    last = x.movedim(1, -1).is_contiguous() and channels > 1
    block_c = _block_of_channels(channels) if last else 1
    block_s = min(elements // block_c, triton.next_power_of_2(voxels))
    pieces = triton.cdiv(voxels, block_s)
    wanted = max(1, _PROGRAMS // (batch * triton.cdiv(channels, block_c)))
    return Tiles(
        B=batch,
        C=channels,
        S=voxels,
        K=channels // num_groups,
        stride_s=channels if last else 1,
        stride_c=1 if last else voxels,
        chunk=triton.cdiv(pieces, wanted) * block_s,
        block_s=block_s,
        block_c=block_c,
    )


def _block_of_channels(channels: int) -> int:
    """A power of two that divides the channels where that leaves whole sectors, else one above."""
    divisor = channels & -channels
    block = divisor if divisor >= _LEAST_CHANNELS else triton.next_power_of_2(channels)
    return min(block, _MOST_CHANNELS)


def groups(cut: Tiles) -> Groups:
    """Cut the partial sums [B, splits, *, C] of a pass."""
    block_k = triton.next_power_of_2(cut.K)
    count = cut.C // cut.K
    block_g = min(max(1, _MERGED_CHANNELS // block_k), triton.next_power_of_2(count))
    held = max(1, _MERGED // (block_g * block_k))
    block_n = min(held, triton.next_power_of_2(cut.splits))
    return Groups((triton.cdiv(count, block_g), cut.B), block_n, block_g, block_k)


@triton.jit
def place(split, C, S, stride_s, stride_c, chunk, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sample, channels [BLOCK_C], voxels of the split, and offsets [BLOCK_S, BLOCK_C] of a tile."""
    b = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = split.to(tl.int64) * chunk
    voxels = first + tl.arange(0, BLOCK_S)
    offsets = b * C * S + voxels[:, None] * stride_s + c[None, :].to(tl.int64) * stride_c
    return b, c, tl.minimum(S - first, chunk), offsets
