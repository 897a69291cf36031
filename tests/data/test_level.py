"""Levels of masks: they lead back to the mask, and say how far the border is."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from fastgan.config import DataConfig
from fastgan.data import open_dataset
from fastgan.data.level import REACH, SHARE, levels, unlevelled


def ball(shape: tuple[int, int, int], radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    """A soft ball of a radius in mm in [-1, 1], partial over one mm on both sides of its border."""
    axes = [(np.arange(n) - n // 2) * s for n, s in zip(shape, spacing, strict=True)]
    r = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return np.clip(radius - r, -1.0, 1.0).astype(np.float32)


SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 2.5), (3.0, 0.5, 1.0)]


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_levels_lead_back_to_the_mask(spacing: tuple[float, float, float]) -> None:
    mask = ball((17, 16, 9), 4.0, spacing)
    found = levels(mask, spacing)
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1.0
    assert np.abs(unlevelled(found) - mask).max() < 1e-6


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_beyond_partial_voxels_a_level_is_the_distance(
    spacing: tuple[float, float, float],
) -> None:
    """Against the definition, voxel by voxel."""
    mask = ball((11, 12, 7), 3.0, spacing)
    found = levels(mask, spacing)
    places = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), -1) * spacing
    for value, sign in ((-1.0, -1.0), (1.0, 1.0)):
        others = places[mask != value].reshape(-1, 3)
        for at in np.argwhere(mask == value)[::5]:
            millimetres = np.sqrt(((places[tuple(at)] - others) ** 2).sum(1)).min()
            share = min(millimetres / np.mean(spacing) / REACH, 1.0)
            expected = sign * (SHARE + (1.0 - SHARE) * share)
            assert found[tuple(at)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_without_a_border_all_is_far(value: float) -> None:
    flat = np.full((2, 4, 5, 6), value, np.float32)
    assert np.array_equal(levels(flat, (1.0, 1.0, 1.0)), flat)


def test_errors_far_from_the_border_leave_the_mask_alone() -> None:
    mask = ball((16, 16, 16), 4.0, (1.0, 1.0, 1.0))
    found = levels(mask, (1.0, 1.0, 1.0))
    far = np.abs(found) > 2 * SHARE
    noise = np.random.default_rng(0).uniform(-SHARE, SHARE, mask.shape)
    assert 0.2 < far.mean() < 1.0
    assert np.array_equal(unlevelled(found + far * noise)[far], mask[far])


@pytest.mark.parametrize("sampling", ["whole", "patch"])
def test_mask_files_are_trained_on_as_levels(tmp_path: Path, sampling: str) -> None:
    """Resampled first, so that a thick slice has the distances of the grid it ends on."""
    mask = (ball((18, 18, 10), 5.0, (1.0, 1.0, 2.0)) + 1.0) / 2.0
    for i in range(4):
        nibabel.save(
            nibabel.Nifti1Image(mask, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / f"{i}.nii"
        )
    config = DataConfig(
        source=str(tmp_path), modality="mask", shape=(16, 16, 10), sampling=sampling, holdout=0.0
    )
    data = open_dataset(config, "train")
    assert data.normalisation["share"] == SHARE
    volume = data.volume(0)
    assert -1.0 < np.unique(volume)[1] < -SHARE
    assert np.abs(data.denormalise(volume)[0] - mask[1:-1, 1:-1]).max() < 1e-3


def test_bundled_nodules_are_levels_that_lead_back() -> None:
    config = DataConfig(shape=(32, 32, 32), modality="mask", holdout=0.3)
    data = open_dataset(config, "holdout")
    volume = data.volume(3)
    assert volume.min() == -1.0
    masks = data.denormalise(volume)
    assert masks.min() == 0.0
    # The bundled file has 256 shades of partial voxels.
    assert np.abs(masks * 255.0 - np.rint(masks * 255.0)).max() < 0.03
