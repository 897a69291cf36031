"""Structures stay where they are in the world, whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.data.resample import crop_or_pad, resample, resampled_shape
from fastgan.errors import ConfigError

AFFINE = np.array([[1.5, 0, 0, -20], [0, 0.7, 0, 5], [0, 0, 2.5, 31], [0, 0, 0, 1.0]])
TILT = np.array([0.3, -0.2, 0.5])


def ramp(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return ((index @ affine[:3, :3].T + affine[:3, 3]) @ TILT).astype(np.float32)


@pytest.mark.parametrize(
    "spacing", [(1.5, 0.7, 2.5), (1.0, 1.0, 1.0), (3.1, 1.9, 4.3), (0.5, 2.2, 2.5), (2.0, 2.0, 2.0)]
)
def test_a_ramp_in_world_space_is_kept(spacing: tuple[float, float, float]) -> None:
    shape = (30, 41, 22)
    out, affine = resample(ramp(shape, AFFINE), AFFINE, spacing)
    expected = ramp(out.shape, affine)
    # At the border the edge voxel is repeated, over at most the width of the filter.
    inner = tuple(slice(3, -3) for _ in range(3))
    assert np.abs(out[inner] - expected[inner]).max() < 1e-4
    assert np.allclose(np.diag(affine)[:3], spacing)


def test_same_spacing_changes_nothing() -> None:
    array = np.random.default_rng(0).standard_normal((5, 6, 7)).astype(np.float32)
    out, affine = resample(array, AFFINE, (1.5, 0.7, 2.5))
    assert np.array_equal(out, array)
    assert np.array_equal(affine, AFFINE)


def test_field_of_view_keeps_its_centre() -> None:
    array = np.zeros((20, 30, 10), np.float32)
    out, affine = resample(array, AFFINE, (2.0, 2.0, 2.0))
    before = AFFINE[:3, :3] @ (np.array(array.shape) - 1) / 2 + AFFINE[:3, 3]
    after = affine[:3, :3] @ (np.array(out.shape) - 1) / 2 + affine[:3, 3]
    assert np.allclose(before, after)
    assert out.shape == (15, 10, 12)


def test_downsampling_does_not_alias() -> None:
    checker = (np.indices((48, 48, 48)).sum(0) % 2).astype(np.float32)
    out, _ = resample(checker, np.eye(4), (3.0, 3.0, 3.0))
    assert np.abs(out[1:-1, 1:-1, 1:-1] - 0.5).max() < 0.01


def test_constant_stays_constant() -> None:
    out, _ = resample(np.full((9, 9, 9), 3.5, np.float32), np.eye(4), (0.7, 1.3, 2.9))
    assert np.abs(out - 3.5).max() < 1e-5


def test_crop_and_pad_keep_positions() -> None:
    array = ramp((10, 11, 12), AFFINE)
    out, affine = crop_or_pad(array, AFFINE, (6, 11, 17), fill=-99.0)
    expected = ramp((6, 11, 17), affine)
    inside = out != -99.0
    assert inside.sum() == 6 * 11 * 12
    assert np.allclose(out[inside], expected[inside], atol=1e-4)


@pytest.mark.parametrize(
    "spacing", [(1.5, 0.7, 2.5), (1.0, 1.0, 1.0), (3.1, 1.9, 4.3), (0.5, 2.2, 2.5)]
)
def test_the_way_back_is_the_same_grid(spacing: tuple[float, float, float]) -> None:
    array = ramp((30, 41, 22), AFFINE)
    there, affine = resample(array, AFFINE, spacing)
    assert there.shape == resampled_shape(array.shape, (1.5, 0.7, 2.5), spacing)
    back, again = resample(there, affine, (1.5, 0.7, 2.5), array.shape)
    assert back.shape == array.shape
    assert np.abs(again - AFFINE).max() < 1e-12
    inner = tuple(slice(8, -8) for _ in range(3))
    assert np.abs(back[inner] - array[inner]).max() < 1e-4
    if spacing == (1.5, 0.7, 2.5):
        assert np.array_equal(back, array)


def test_nearly_the_same_spacing_returns_untouched() -> None:
    array = np.random.default_rng(0).standard_normal((30, 6, 7)).astype(np.float32)
    there, affine = resample(array, AFFINE, (1.5009, 0.7, 2.5))
    back, _ = resample(there, affine, (1.5, 0.7, 2.5), array.shape)
    assert np.array_equal(back, array)


def test_rejects_spacing() -> None:
    for spacing in ((0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan"))):
        with pytest.raises(ConfigError, match="spacing"):
            resample(np.zeros((2, 2, 2), np.float32), np.eye(4), spacing)
