"""Areas of level surfaces with known answers."""

import numpy as np
import pytest

from fastgan.measures.surface import level_area


def grid(size: int, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
    axes = [(np.arange(size) - (size - 1) / 2) * step for step in spacing]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


@pytest.mark.parametrize("radius", [3.0, 5.0, 9.0])
def test_ball(radius):
    values = 0.5 + radius - np.linalg.norm(grid(24), axis=-1)
    assert level_area(values, (1.0,) * 3) == pytest.approx(4 * np.pi * radius**2, rel=0.03)


def test_ball_on_unequal_spacing():
    spacing = (0.5, 1.0, 0.8)
    values = 0.5 + 5.0 - np.linalg.norm(grid(32, spacing), axis=-1)
    assert level_area(values, spacing) == pytest.approx(4 * np.pi * 25, rel=0.02)


def test_binary_box_is_cut_at_its_corners_only():
    values = np.zeros((20, 20, 20))
    values[4:14, 4:14, 4:14] = 1.0
    # The level lies half a voxel outside the centres: a cube of side 10 without its edges.
    assert level_area(values, (1.0,) * 3) == pytest.approx(600.0, rel=0.08)


def test_area_scales_with_the_square_of_the_spacing():
    values = np.random.default_rng(0).random((6, 6, 6))
    assert level_area(values, (3.0,) * 3) == pytest.approx(9 * level_area(values, (1.0,) * 3))


def test_a_body_at_the_border_is_closed():
    inner, whole = np.zeros((10, 10, 10)), np.ones((8, 8, 8))
    inner[1:-1, 1:-1, 1:-1] = 1.0
    assert level_area(whole, (1.0,) * 3) == pytest.approx(level_area(inner, (1.0,) * 3))


def test_nothing_has_no_surface():
    assert level_area(np.zeros((5, 5, 5)), (1.0,) * 3) == 0.0
