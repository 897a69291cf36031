"""Distances between sets of features, against closed forms and definitions."""

import numpy as np
import pytest

from fastgan.audit.quality.feature_distances import KernelDistance, coverage, frechet_distance
from fastgan.errors import AuditError

RNG = np.random.default_rng


def test_frechet_distance_of_the_published_example():
    a, b = np.array([[1.0, 2.0]] * 3), np.array([[2.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert frechet_distance(a, b) == pytest.approx(0.4444, abs=1e-4)


def test_frechet_distance_is_the_closed_form():
    x, y = RNG(0).standard_normal((40, 6)), RNG(1).standard_normal((50, 6)) * [1, 2, 3, 1, 1, 1] + 1
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    linalg = pytest.importorskip("scipy.linalg")
    cx, cy = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(cx @ cy)
    root = np.real(root[0] if isinstance(root, tuple) else root)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected)
    # One feature: (difference of means)^2 + (difference of deviations)^2.
    u, v = x[:, :1], y[:, 1:2]
    gap = (u.mean() - v.mean()) ** 2 + (u.std(ddof=1) - v.std(ddof=1)) ** 2
    assert frechet_distance(u, v) == pytest.approx(gap)


def test_frechet_distance_of_one_distribution_is_no_zero():
    x, y = RNG(0).standard_normal((2, 60, 48))
    assert frechet_distance(x, y) > 10  # hence the floor


def test_kernel_distance_is_its_definition():
    x, y = RNG(0).standard_normal((7, 3)), RNG(1).standard_normal((9, 3)) + 0.5
    who = np.array([0, 0, 1, 2, 3, 4, 5])

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    xx = [kernel(x[i], x[j]) for i in range(7) for j in range(7) if who[i] != who[j]]
    yy = [kernel(y[i], y[j]) for i in range(9) for j in range(9) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    distance = KernelDistance(x, y, who, np.arange(9))
    assert distance.value() == pytest.approx(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy))
    # A weight of 2 counts a volume twice, without pairing it with itself.
    weight = np.ones(9)
    weight[4] = 2
    yy = [kernel(y[i], y[j]) * weight[i] * weight[j] for i in range(9) for j in range(9) if i != j]
    pairs = sum(weight[i] * weight[j] for i in range(9) for j in range(9) if i != j)
    xy = [kernel(a, b) * w for a in x for b, w in zip(y, weight, strict=True)]
    expected = np.mean(xx) + np.sum(yy) / pairs - 2 * np.sum(xy) / 70
    assert distance.value(None, weight) == pytest.approx(expected)


@pytest.mark.parametrize("volumes", [1, 3])
def test_kernel_distance_of_one_distribution_has_expectation_zero(volumes):
    values = []
    for seed in range(100):
        rng = RNG(seed)
        who = np.repeat(np.arange(12), volumes)
        x, y = (rng.standard_normal((12, 4))[who] for _ in range(2))
        values.append(KernelDistance(x, y, who, who).value())
    assert abs(np.mean(values)) < 3.5 * np.std(values) / np.sqrt(100)


def test_coverage_is_its_definition():
    real, made = RNG(0).standard_normal((30, 2)), RNG(1).standard_normal((20, 2)) * 0.5
    distance = np.linalg.norm(real[:, None] - made[None], axis=2)

    def reach(rows):
        return np.sort(np.linalg.norm(rows[:, None] - rows[None], axis=2), axis=1)[:, 5]

    inside = distance <= reach(real)[:, None]
    found = coverage(real, made)
    assert found.precision == pytest.approx(inside.any(0).mean())
    assert found.density == pytest.approx(inside.sum() / (5 * 20))
    assert found.coverage == pytest.approx(inside.any(1).mean())
    assert found.recall == pytest.approx((distance <= reach(made)[None]).any(1).mean())


def test_coverage_tells_dropped_modes_from_poor_volumes():
    real = np.concatenate([RNG(0).standard_normal((60, 3)), RNG(1).standard_normal((60, 3)) + 20])
    half = coverage(real, RNG(2).standard_normal((120, 3)))
    assert half.precision > 0.9 and half.recall <= 0.5 and half.coverage <= 0.5
    far = coverage(real, RNG(3).standard_normal((120, 3)) + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_distances_refuse_what_they_cannot_compare():
    good = RNG(0).standard_normal((8, 3))
    bad = good.copy()
    bad[0, 0] = np.nan
    for x, y, message in (
        (good, good[:, :2], "features must be"),
        (good, good[:1], "needs 2 vectors"),
        (good, bad, "NaN"),
    ):
        with pytest.raises(AuditError, match=message):
            frechet_distance(x, y)
    with pytest.raises(AuditError, match="more than 5"):
        coverage(good, good[:5])
    with pytest.raises(AuditError, match="at least 2 subjects"):
        KernelDistance(good, good, np.zeros(8), np.arange(8))
