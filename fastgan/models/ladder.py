"""Which axis is halved in which stage, for any volume shape.

An axis is halved as often as it divides evenly, stays at or above a minimum and there are stages.
Where that leaves a grid too large for a linear layer, axes of odd length are halved, too: 17 voxels
become 8, and a generator gives the last of 17 one voxel more than twice 8.
One with fewer halvings than another starts later: the thick-slice axis of an anisotropic scan is
left alone on the fine stages, where its voxels are far apart, as nnU-Net does. Stages that halve
nothing come last, on the coarsest grid, where they cost least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastgan.errors import ConfigError

__all__ = ["LARGEST_GRID", "Ladder", "build_ladder", "folded_shape"]

# Voxels of the coarsest grid that a linear layer may still span: 8^3, 65,536 features at 128
# channels.
LARGEST_GRID = 512
MOST_STAGES = 12


@dataclass(frozen=True)
class Ladder:
    """Grids and strides from the finest to the coarsest.

    Attributes:
        grids: stages + 1 shapes (D, H, W); the first is the volume, the last the coarsest.
        strides: of each stage, three times 1 or 2; grids[i] // strides[i] = grids[i + 1].
    """

    grids: tuple[tuple[int, int, int], ...]
    strides: tuple[tuple[int, int, int], ...]

    @property
    def left_over(self) -> tuple[tuple[int, int, int], ...]:
        """Voxels of each stage's finer grid beyond stride times the coarser: 1 where it is odd."""
        steps = zip(self.grids, self.strides, self.grids[1:], strict=False)
        return tuple(
            (above[0] - s[0] * below[0], above[1] - s[1] * below[1], above[2] - s[2] * below[2])
            for above, s, below in steps
        )

    @property
    def coarsest(self) -> tuple[int, int, int]:
        """Shape of the coarsest grid."""
        return self.grids[-1]


def build_ladder(
    shape: Sequence[int], stages: int, *, minimum: int, where: str = "ladder"
) -> Ladder:
    """Spread the halvings of each axis over the stages.

    Args:
        shape: D, H, W voxels, each >= 1.
        stages: number of stages, >= 0.
        minimum: voxels below which no axis is halved.
        where: the setting that fixes the number of stages, named in errors.

    Raises:
        ConfigError: the coarsest grid would hold more than 512 voxels, because the stages are too
            few; names the axis and what would do.

    >>> build_ladder((64, 64, 16), 3, minimum=4).strides
    ((2, 2, 1), (2, 2, 2), (2, 2, 2))
    >>> build_ladder((34, 34, 34), 3, minimum=3).coarsest
    (4, 4, 4)
    """
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise ConfigError(f"{where}: shape must be three positive numbers, got {tuple(shape)}")
    sizes = [int(n) for n in shape]
    counts = [_even_halvings(n, stages, minimum) for n in sizes]
    if math.prod(n >> count for n, count in zip(sizes, counts, strict=True)) > LARGEST_GRID:
        counts = [_halvings(n, stages, minimum) for n in sizes]
        if not _fits(sizes, stages, minimum):
            raise ConfigError(_refusal(sizes, counts, stages, minimum, where))
    grids = [(sizes[0], sizes[1], sizes[2])]
    strides = []
    halving = max(counts)
    for stage in range(stages):
        d, h, w = (2 if halving - count <= stage < halving else 1 for count in counts)
        strides.append((d, h, w))
        grids.append((grids[-1][0] // d, grids[-1][1] // h, grids[-1][2] // w))
    return Ladder(tuple(grids), tuple(strides))


def folded_shape(shape: Sequence[int], fold: Sequence[int], where: str) -> tuple[int, int, int]:
    """Voxels left along each axis when blocks of `fold` become channels.

    Raises:
        ConfigError: not three factors, one below 1, or an axis that is no multiple of its factor.
    """
    if len(shape) != 3 or len(fold) != 3 or min(fold) < 1:
        raise ConfigError(
            f"{where}: shape and fold must be three numbers, fold from 1 on, got {tuple(shape)} "
            f"and {tuple(fold)}"
        )
    for axis, (size, factor) in enumerate(zip(shape, fold, strict=True)):
        if size % factor:
            raise ConfigError(
                f"{where}: axis {axis} of shape {_text(shape)} is not divisible by fold {factor}"
            )
    d, h, w = (int(size) // int(factor) for size, factor in zip(shape, fold, strict=True))
    return d, h, w


def _even_halvings(size: int, stages: int, minimum: int) -> int:
    factors_of_two = (size & -size).bit_length() - 1
    return _halvings(size, min(stages, factors_of_two), minimum)


def _halvings(size: int, stages: int, minimum: int) -> int:
    count = 0
    while count < stages and size // 2 >= minimum:
        size //= 2
        count += 1
    return count


def _coarse(size: int, stages: int, minimum: int) -> int:
    return size >> _halvings(size, stages, minimum)


def _fits(sizes: Sequence[int], stages: int, minimum: int) -> bool:
    return math.prod(_coarse(n, stages, minimum) for n in sizes) <= LARGEST_GRID


def _refusal(
    sizes: Sequence[int], counts: Sequence[int], stages: int, minimum: int, where: str
) -> str:
    """The whole error: what is wrong with which axis, and what would work."""
    coarse = [_coarse(n, stages, minimum) for n in sizes]
    worst = max(range(3), key=lambda axis: coarse[axis])
    text = (
        f"{where}: shape {_text(sizes)} is too large for {stages} stages, which leave a grid of "
        f"{_text(coarse)}, more than {LARGEST_GRID} voxels; axis {worst} ({sizes[worst]} voxels) "
        f"is halved {counts[worst]} times."
    )
    ways = [f"the next smaller shape {_text([_near(n, stages, minimum) for n in sizes])}"]
    more = [s for s in range(stages + 1, MOST_STAGES) if _fits(sizes, s, minimum)]
    if more:
        ways.append(f"this shape with {more[0] - stages} more entries in {where}")
    return f"{text} Would do: {'; '.join(ways)}."


def _near(size: int, stages: int, minimum: int) -> int:
    """The largest size up to `size` whose coarsest length is small enough; even where halved."""
    # Cube root: three such axes always fit.
    limit = round(LARGEST_GRID ** (1 / 3))
    while _coarse(size, stages, minimum) > limit or (stages and size % 2):
        size -= 1
    return size


def _text(sizes: Sequence[int]) -> str:
    return "x".join(str(n) for n in sizes)
