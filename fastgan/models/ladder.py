"""Which axis is halved in which stage, for any volume shape.

An axis is halved as often as it divides evenly, stays at or above a minimum and there are stages.
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
        strides: of each stage, three times 1 or 2; grids[i] / strides[i] = grids[i + 1].
    """

    grids: tuple[tuple[int, int, int], ...]
    strides: tuple[tuple[int, int, int], ...]

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
        ConfigError: the coarsest grid would hold more than 512 voxels, because an axis is odd
            too early or the stages are too few; names the axis and what would do.

    >>> build_ladder((64, 64, 16), 3, minimum=4).strides
    ((2, 2, 1), (2, 2, 2), (2, 2, 2))
    """
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise ConfigError(f"{where}: shape must be three positive numbers, got {tuple(shape)}")
    sizes = [int(n) for n in shape]
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


def _halvings(size: int, stages: int, minimum: int) -> int:
    count = 0
    while count < stages and size % 2 == 0 and size // 2 >= minimum:
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
        f"{where}: shape {_text(sizes)} is not divisible by the network's stride: {stages} stages "
        f"leave a grid of {_text(coarse)}, more than {LARGEST_GRID} voxels; axis {worst} "
        f"({sizes[worst]} voxels) can be halved {counts[worst]} times."
    )
    ways = []
    above = [_near(n, stages, minimum, +1) for n in sizes]
    below = [_near(n, stages, minimum, -1) for n in sizes]
    if all(n is not None for n in above):
        ways.append(f"the next larger shape {_text(above)}")
    ways.append(f"the next smaller shape {_text(below)}")
    more = [s for s in range(stages + 1, MOST_STAGES) if _fits(sizes, s, minimum)]
    if more:
        ways.append(f"this shape with {more[0] - stages} more entries in {where}")
    return f"{text} Would do: {'; '.join(ways)}."


def _near(size: int, stages: int, minimum: int, step: int) -> int | None:
    """The next size from `size` on in direction `step` whose coarsest length is small enough."""
    # Cube root: three such axes always fit.
    limit = round(LARGEST_GRID ** (1 / 3))
    while _coarse(size, stages, minimum) > limit:
        size += step
        if step > 0 and size > limit << stages:
            return None
    return size


def _text(sizes: Sequence[int | None]) -> str:
    return "x".join(str(n) for n in sizes)
