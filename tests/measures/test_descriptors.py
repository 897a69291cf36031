"""Numbers that stand for volumes: what each column of the descriptors sees."""

import numpy as np
import pytest

from fastgan.measures.descriptors import (
    FINE_MEANS,
    INTENSITIES,
    block_means,
    size_of,
    voxel_descriptors,
)


def test_intensities_are_the_columns_that_follow_an_offset():
    values = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 8, 9, 10))
    gap = voxel_descriptors(values + 0.25) - voxel_descriptors(values)
    others = np.setdiff1d(np.arange(gap.shape[1]), INTENSITIES)
    np.testing.assert_allclose(gap[:, INTENSITIES], 0.25, atol=1e-6)
    np.testing.assert_allclose(gap[:, others], 0.0, atol=1e-6)
    np.testing.assert_allclose(
        voxel_descriptors(values)[:, FINE_MEANS], block_means(values, 4), atol=1e-12
    )


@pytest.mark.parametrize(
    ("rounded", "starts"), [(False, [0, 2, 5, 7]), (True, [0, 2, 5, 8])], ids=["even", "rounded"]
)
def test_blocks_of_an_axis_that_does_not_divide(rounded, starts):
    values = np.zeros((1, 10, 1, 1)) + np.arange(10.0)[:, None, None]
    found = block_means(values, 4, rounded=rounded)
    ends = [*starts[1:], 10]
    expected = [np.mean(range(a, b)) for a, b in zip(starts, ends, strict=True)]
    np.testing.assert_allclose(found[0], expected)


def test_a_body_counts_its_soft_rim_in_part_and_a_hard_one_whole_voxels():
    mask = np.full((1, 4, 4, 4), -1.0)
    mask[0, 0, 0, :3] = 1.0, 0.25, -0.25
    assert size_of(mask)[0] == pytest.approx((1 + 0.75 + 0.25) / 64)
    assert size_of(mask, hard=True)[0] == 2 / 64
