"""Shape statistics of bodies whose volume, surface and elongation are known."""

import numpy as np
import pytest

from fastgan.errors import AuditError
from fastgan.measures.shape import shape_statistics, soft_ellipsoids

UNIT = (1.0, 1.0, 1.0)
BALL_RATIO = (36 * np.pi) ** (1 / 3)


def ball(volume: float, shape=(40, 40, 40), spacing=UNIT) -> np.ndarray:
    return soft_ellipsoids(np.array([volume]), shape, spacing, aspect=np.ones((1, 3)))


def test_ball_has_its_volume_surface_and_no_elongation():
    statistics = shape_statistics(ball(9000.0), UNIT)
    assert statistics.volume[0] == pytest.approx(9000.0, rel=0.01)
    assert statistics.surface_ratio[0] == pytest.approx(BALL_RATIO, rel=0.02)
    assert statistics.elongation[0] == pytest.approx(1.0, abs=0.01)


def test_spacing_is_physical():
    fine = shape_statistics(ball(9000.0), UNIT)
    thick = shape_statistics(ball(9000.0, (40, 40, 16), (1.0, 1.0, 2.5)), (1.0, 1.0, 2.5))
    assert thick.volume[0] == pytest.approx(fine.volume[0], rel=0.02)
    assert thick.surface_ratio[0] == pytest.approx(fine.surface_ratio[0], rel=0.05)
    assert thick.elongation[0] == pytest.approx(1.0, abs=0.03)


def test_elongation_is_the_ratio_of_the_two_longest_axes():
    body = soft_ellipsoids(
        np.array([4000.0]), (48, 48, 48), UNIT, aspect=np.array([[2.0, 1.0, 0.8]])
    )
    assert shape_statistics(body, UNIT).elongation[0] == pytest.approx(0.5, abs=0.02)


def test_faint_background_changes_nothing():
    clean = ball(4000.0)
    noisy = np.clip(clean, 0.02, 0.98)
    a, b = shape_statistics(clean, UNIT), shape_statistics(noisy, UNIT)
    np.testing.assert_array_equal(a.volume, b.volume)
    np.testing.assert_allclose(a.surface_ratio, b.surface_ratio, rtol=0.01)


def test_a_rough_body_has_more_surface_than_a_smooth_one():
    smooth = ball(9000.0) >= 0.5
    rough = smooth.copy()
    rough[:, ::2, ::2] = False
    ratios = [shape_statistics(m.astype(float), UNIT).surface_ratio[0] for m in (smooth, rough)]
    assert ratios[1] > 1.5 * ratios[0]


def test_empty_mask_is_volume_zero_and_undefined_otherwise():
    statistics = shape_statistics(np.zeros((1, 8, 8, 8)), UNIT)
    assert statistics.volume[0] == 0.0
    assert np.isnan(statistics.surface_ratio[0]) and np.isnan(statistics.elongation[0])


def test_no_masks_give_no_values():
    assert shape_statistics(np.zeros((0, 8, 8, 8)), UNIT).volume.shape == (0,)


def test_ellipsoids_have_the_volumes_asked_for():
    volumes = np.array([500.0, 2000.0, 6000.0])
    bodies = soft_ellipsoids(volumes, (48, 48, 48), UNIT, rng=np.random.default_rng(0))
    np.testing.assert_allclose(shape_statistics(bodies, UNIT).volume, volumes, rtol=0.05)


@pytest.mark.parametrize(
    "masks",
    [np.zeros((4, 8, 8)), np.zeros((1, 1, 8, 8)), np.full((1, 8, 8, 8), np.nan)],
    ids=["three axes", "one voxel", "nan"],
)
def test_rejects_what_has_no_shape(masks):
    with pytest.raises(AuditError, match="shape_statistics"):
        shape_statistics(masks, UNIT)


def test_ellipsoids_reject_missing_aspect():
    with pytest.raises(AuditError, match="aspect"):
        soft_ellipsoids(np.ones(1), (8, 8, 8), UNIT)
