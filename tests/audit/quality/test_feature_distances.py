"""Distances between sets of features, against closed forms, definitions and other libraries."""

import importlib
import warnings

import numpy as np
import pytest
import torch

from fastgan.audit.quality.context.similarity import ms_ssim
from fastgan.audit.quality.feature_distances import KernelDistance, coverage, frechet_distance
from fastgan.errors import AuditError
from tests.conftest import NO_TORCHMETRICS

RNG = np.random.default_rng


def sample(mean, covariance, count=50, seed=0):
    """[N, F] rows whose mean and covariance are exactly these."""
    rows = RNG(seed).standard_normal((count, len(mean)))
    rows -= rows.mean(0)
    root = np.linalg.cholesky(np.linalg.inv(np.cov(rows.T).reshape(len(mean), -1)))
    return rows @ root @ np.linalg.cholesky(np.asarray(covariance, float)).T + np.asarray(mean)


def test_frechet_distance_of_the_published_example():
    # Means (1, 2) and (4/3, 2): (1/3)^2 = 1/9. Covariances 0 and diag(1/3, 0), over N - 1 = 2:
    # the sum of squares about 4/3 is 4/9 + 1/9 + 1/9 = 2/3. Trace 1/3, and 1/9 + 1/3 = 4/9.
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


def test_frechet_distance_of_exact_normal_moments():
    # The means differ by (1, -2): 5. The trace of the root of P, a 2 x 2 matrix with eigenvalues
    # p, q >= 0, is root p + root q, whose square is p + q + 2 root(p q) = tr P + 2 root(det P).
    s, t = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    cross = np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s @ t)))
    expected = 5 + np.trace(s) + np.trace(t) - 2 * cross
    x, y = sample((0, 1), s), sample((1, -1), t, count=70, seed=1)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    # Covariances that share their axes: the deviations' differences alone, whatever the axes.
    axes = np.linalg.qr(RNG(2).standard_normal((4, 4)))[0]
    u, v = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 2.0, 1.5, 1.0])
    x, y = (
        sample(np.zeros(4), axes @ np.diag(d**2) @ axes.T, seed=i) for i, d in enumerate((u, v))
    )
    assert frechet_distance(x, y) == pytest.approx(((u - v) ** 2).sum(), rel=1e-9)


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
    assert abs(np.mean(values)) < 3 * np.std(values, ddof=1) / np.sqrt(100)


def test_kernel_distance_of_two_points_apart_is_its_expectation():
    # x = a and y = b always, one feature: k(a, a) + k(b, b) - 2 k(a, b) with k = (x y + 1)^3,
    # for a = 0, b = 1: 1 + 8 - 2 = 7.
    x, y = np.zeros((4, 1)), np.ones((5, 1))
    assert KernelDistance(x, y, np.arange(4), np.arange(5)).value() == pytest.approx(7)


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


def test_coverage_of_points_on_a_line():
    # Patients at 0 .. 6. Their 5th neighbour lies at 5, 4, 3, 3, 3, 4, 5: 2 has 1, 1, 2, 2, 3, and
    # 1 has 1, 1, 2, 3, 4. Generated: six at 9.5 and two at -1. From 9.5 patients lie 9.5 .. 3.5, so
    # 5 (4.5 > 4) and 4 do not reach it and 6 (3.5 <= 5) does; -1 is reached by 0 (1 <= 5),
    # 1 (2 <= 4), 2 (3 <= 3) and not by 3 (4 > 3), 4 (5 > 3), 5 (6 > 4), 6 (7 > 5).
    real = np.arange(7.0)[:, None]
    made = np.array([9.5] * 6 + [-1.0] * 2)[:, None]
    found = coverage(real, made)
    assert found.precision == 1
    assert found.density == pytest.approx((6 * 1 + 2 * 3) / (5 * 8))
    assert found.coverage == pytest.approx(4 / 7)  # 0, 1, 2 and 6
    # Each at 9.5 has its 5th neighbour at 0, among the other five; each at -1 at 10.5, so it
    # reaches everybody.
    assert found.recall == 1
    # One outlier among generated volumes does not make patients reached by density and coverage.
    far = coverage(real, np.array([0.0] * 7 + [1e6])[:, None])
    assert far.recall == 1 and far.coverage == pytest.approx(4 / 7)  # 0, 1, 2, 3 lie 0 .. 3 away


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


def other(module):
    """A module of torchmetrics, which nothing here needs."""
    pytest.importorskip("torchmetrics", reason=NO_TORCHMETRICS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"torchmetrics.{module}")


@pytest.mark.parametrize("features", [1, 7, 40])
def test_torchmetrics_agrees_on_frechet_and_kernel_distance(features):
    kid, fid = other("image.kid"), other("image.fid")
    x, y = (
        RNG(0).standard_normal((60, features)),
        1.3 * RNG(1).standard_normal((60, features)) + 0.2,
    )
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    ours = KernelDistance(x, y, np.arange(60), np.arange(60)).value()
    assert ours == pytest.approx(float(kid.poly_mmd(a, b)), rel=1e-6, abs=1e-6)
    moments = [(s.mean(0), torch.cov(s.T).reshape(features, features)) for s in (a, b)]
    theirs = float(fid._compute_fid(*moments[0], *moments[1]))
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_torchmetrics_agrees_on_structural_similarity():
    """Its own mean runs over reflected borders, too; here the window is wholly inside."""
    compare = other("functional.image").structural_similarity_index_measure
    x, y = RNG(0).random((2, 3, 23, 24, 22))
    y = 0.6 * x + 0.4 * y
    a, b = (torch.from_numpy(v)[:, None] for v in (x, y))
    options = {"data_range": 1.0, "reduction": "none"}
    structure = compare(a, b, **options, return_contrast_sensitivity=True)[1]
    a, b = (torch.nn.functional.avg_pool3d(v, 2) for v in (a, b))
    whole = compare(a, b, **options, return_full_image=True)[1]
    coarse = whole[:, 0, 5:-5, 5:-5, 5:-5].flatten(1).mean(1)
    first, second = 0.0448, 0.2856  # published weights of the two scales that fit
    theirs = (structure**first * coarse**second) ** (1 / (first + second))
    assert ms_ssim(x, y, 1.0) == pytest.approx(theirs.numpy(), abs=1e-6)


def test_scikit_learn_agrees_on_the_kernel_and_on_neighbours():
    pairwise = importlib.import_module("sklearn.metrics.pairwise")
    neighbours = importlib.import_module("sklearn.neighbors")
    x, y = RNG(0).standard_normal((40, 5)), RNG(1).standard_normal((30, 5)) * 0.7
    k = [pairwise.polynomial_kernel(a, b, 3, 1 / 5, 1) for a, b in ((x, x), (y, y), (x, y))]
    within = [(m.sum() - np.trace(m)) / (len(m) * (len(m) - 1)) for m in k[:2]]
    ours = KernelDistance(x, y, np.arange(40), np.arange(30)).value()
    assert ours == pytest.approx(sum(within) - 2 * k[2].mean(), rel=1e-6)
    reach = [
        neighbours.NearestNeighbors(n_neighbors=6).fit(s).kneighbors(s)[0][:, -1] for s in (x, y)
    ]
    between = pairwise.euclidean_distances(x, y)
    found = coverage(x, y)
    assert found.precision == (between <= reach[0][:, None]).any(0).mean()
    assert found.recall == (between <= reach[1]).any(1).mean()
    assert found.density == pytest.approx((between <= reach[0][:, None]).sum() / (5 * 30), rel=1e-6)
    assert found.coverage == (between <= reach[0][:, None]).any(1).mean()
