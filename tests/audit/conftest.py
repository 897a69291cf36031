"""Volumes for the tests of the judgements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def bodies() -> Callable[..., np.ndarray]:
    """(count, seed, side=12) -> [count, side, side, side] lumps in the middle, in [-1, 1]."""

    def draw(count: int, seed: int, side: int = 12) -> np.ndarray:
        rng = np.random.default_rng(seed)
        axis = np.arange(side) - (side - 1) / 2
        window = np.exp(-((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / side) / 2)
        knots = rng.standard_normal((count, 4, 4, 4))
        fine = knots.repeat(side // 4, 1).repeat(side // 4, 2).repeat(side // 4, 3)
        return (2 * window / (1 + np.exp(-1.5 * fine)) - 1).astype(np.float32)

    return draw
