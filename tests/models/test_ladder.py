"""The stage ladder: strides of known shapes, its laws, and its refusals."""

from __future__ import annotations

import math
import re

import pytest

from fastgan.errors import ConfigError
from fastgan.models import build_ladder

GRIDS = {
    (32, 32, 32): ((32, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)),
    (48, 40, 12): ((48, 40, 12), (24, 20, 12), (12, 10, 6), (6, 5, 3)),
    (20, 6, 34): ((20, 6, 34), (10, 6, 34), (5, 3, 17), (5, 3, 17)),
    (64, 64, 16): ((64, 64, 16), (32, 32, 16), (16, 16, 8), (8, 8, 4)),
    (8, 8, 1): ((8, 8, 1), (4, 4, 1), (4, 4, 1), (4, 4, 1)),
}


@pytest.mark.parametrize("shape", GRIDS)
def test_grids(shape: tuple[int, int, int]) -> None:
    assert build_ladder(shape, 3, minimum=3).grids == GRIDS[shape]


@pytest.mark.parametrize("stages", [0, 1, 4, 6])
def test_laws(stages: int) -> None:
    accepted = 0
    for shape in [(a, b, c) for a in (2, 6, 16, 40) for b in (5, 8, 28) for c in (4, 32, 96)]:
        try:
            ladder = build_ladder(shape, stages, minimum=2)
        except ConfigError:
            continue
        accepted += 1
        assert math.prod(ladder.coarsest) <= 512
        for above, stride, below in zip(
            ladder.grids, ladder.strides, ladder.grids[1:], strict=False
        ):
            assert all(n // s == m for n, s, m in zip(above, stride, below, strict=True))
        for axis in range(3):
            halved = [s[axis] == 2 for s in ladder.strides]
            # One run of halvings, not below the minimum.
            assert "".join("01"[h] for h in halved).strip("0").count("0") == 0
            assert not any(halved) or ladder.coarsest[axis] >= 2
    assert accepted > 0


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((128, 128, 128), ["16x16x16", "70x70x70", "1 more entries in generator_channels"]),
        ((80, 400, 64), ["axis 1 (400 voxels)", "3 times", "70x70x64", "1 more entries"]),
    ],
)
def test_rejects_and_says_what_would_do(shape: tuple[int, int, int], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        build_ladder(shape, 3, minimum=3, where="generator_channels")
    for word in words:
        assert word in str(error.value)
    for suggestion in re.findall(r"shape (\d+)x(\d+)x(\d+)[;.]", str(error.value)):
        build_ladder([int(n) for n in suggestion], 3, minimum=3)


@pytest.mark.parametrize("shape", [(8, 8), (8, 0, 8), (8, 8, 8.5)])
def test_rejects_no_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="three positive numbers"):
        build_ladder(shape, 1, minimum=2)
