"""How the norm's kernels cut a volume [B, C, S], channels first or last, into tiles of programs.

A pass over voxels has one program per (split of the voxels, block of channels, sample). Splits
depend on the shape alone, never on the GPU, so results are the same on each.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "OPTIONS",
    "SIZES",
    "SUMMING",
    "Groups",
    "Tiles",
    "groups",
    "known",
    "parts",
    "place",
    "tiles",
]

# Of every launch. Products and sums are fused, whatever Triton's default, which changes in 3.10:
# one rounding less, and where rounding decides (the kink) the fusion is written out.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
# Of sums: a sixth program of a multiprocessor reads more at once than further registers would.
SUMMING = OPTIONS | {"maxnreg": 80}
# Numbers of which no value is a kernel of its own: what 16-byte accesses need is in WIDE.
SIZES = ("weight_stride", "bias_stride", "B", "C", "S", "K", "chunk", "splits")
# About eight programs for each of an H100's 132 multiprocessors: enough reads in flight.
_PROGRAMS = 1024
# Channels last: a sector of bfloat16. Programs of neighbouring channels run side by side, so that
# the memory sees whole rows.
_CHANNELS = 16
# Partial sums that one program of a merge holds, and channels of them: one sector of float32; or
# these many where a group has more.
_MERGED, _MERGED_CHANNELS = 4096, (8, 64, 512, 4096)


class Tiles(NamedTuple):
    """Sizes that the kernels over voxels take; C to WIDE in their order."""

    B: int
    C: int
    S: int
    K: int  # channels of a group
    chunk: int  # voxels of a split, a multiple of block_s
    block_s: int
    block_c: int
    last: bool  # channels last, else first
    wide: bool  # 16 divides what lies side by side: channels, or voxels

    @property
    def splits(self) -> int:
        """Programs that share the voxels of a sample."""
        return int(triton.cdiv(self.S, self.chunk))

    @property
    def grid(self) -> tuple[int, int]:
        """Programs of a pass over voxels."""
        return self.splits * triton.cdiv(self.C, self.block_c), self.B

    @property
    def sizes(self) -> tuple[int, ...]:
        """Arguments of every kernel over voxels, its constants at the end."""
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
    # float64 is for tests: no kernels of its own for wide accesses
    wide = (channels if last else voxels) % 16 == 0 and x.element_size() < 8
    block_c = _CHANNELS if last else 1
    block_s = elements // block_c
    pieces = triton.cdiv(voxels, block_s)
    wanted = max(1, _PROGRAMS // (batch * triton.cdiv(channels, block_c)))
    return Tiles(
        B=batch,
        C=channels,
        S=voxels,
        K=channels // num_groups,
        chunk=triton.cdiv(pieces, wanted) * block_s,
        block_s=block_s,
        block_c=block_c,
        last=last,
        wide=wide,
    )


def groups(batch: int, num_groups: int, per_group: int) -> Groups:
    """Cut the partial sums [B, splits, *, C] of a pass, C = num_groups per_group."""
    block_k = next(n for n in (1, *_MERGED_CHANNELS[1:]) if n >= per_group)
    block_g = max(1, _MERGED_CHANNELS[0] // block_k)
    block_n = _MERGED // (block_g * block_k) if block_k > 1 else 64
    return Groups((triton.cdiv(num_groups, block_g), batch), block_n, block_g, block_k)


@triton.jit
def known(C, S, LAST: tl.constexpr, WIDE: tl.constexpr):
    """C and S, of which the compiler sees what 16 divides: that makes accesses wide."""
    if WIDE:
        if LAST:
            C = C // 16 * 16
        else:
            S = S // 16 * 16
    return C, S


@triton.jit
def parts(C, BLOCK_C: tl.constexpr):
    """The program's split, and how many there are: channels come first in the grid."""
    blocks = tl.cdiv(C, BLOCK_C)
    return tl.program_id(0) // blocks, tl.num_programs(0) // blocks


@triton.jit
def place(split, C, S, chunk, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, LAST: tl.constexpr):
    """Sample, channels [BLOCK_C] and voxels of the split; offsets [BLOCK_S, BLOCK_C] of a tile and
    how far the next one is.
    """
    b = tl.program_id(1).to(tl.int64)
    c = tl.program_id(0) % tl.cdiv(C, BLOCK_C) * BLOCK_C + tl.arange(0, BLOCK_C)
    chunk = chunk // BLOCK_S * BLOCK_S
    first = split.to(tl.int64) * chunk
    voxels = first + tl.arange(0, BLOCK_S)
    if LAST:
        offsets = b * C * S + voxels[:, None] * C + c[None, :].to(tl.int64)
        step = BLOCK_S * C
    else:
        offsets = b * C * S + voxels[:, None] + c[None, :].to(tl.int64) * S
        step = BLOCK_S
    return b, c, tl.minimum(S - first, chunk), offsets, step
