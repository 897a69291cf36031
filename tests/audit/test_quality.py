"""Distances between sets against closed forms and definitions; the judgement of quality."""

import dataclasses

import numpy as np
import pytest

from fastgan.audit import quality
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.quality.feature_distances import KernelDistance, coverage, frechet_distance
from fastgan.audit.quality.features import PyramidFeatures
from fastgan.audit.quality.similarity import ms_ssim
from fastgan.audit.statistics.discriminant import standardised
from fastgan.errors import AuditError
from fastgan.measures.shape import soft_ellipsoids

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


def test_ms_ssim_of_equal_brighter_and_other_volumes():
    a = RNG(0).random((2, 12, 22, 23))
    np.testing.assert_allclose(ms_ssim(a, a, 1.0), 1.0)
    brighter, noisy = ms_ssim(a, a + 0.2, 1.0), ms_ssim(a, RNG(1).random(a.shape), 1.0)
    assert (noisy < brighter).all() and (brighter < 1).all()
    with pytest.raises(AuditError, match="at least 11 voxels"):
        ms_ssim(a[:, :8], a[:, :8], 1.0)


def test_ms_ssim_of_one_scale_is_the_closed_form():
    # Constant volumes: no structure, so the luminance factor alone.
    x, y = np.full((1, 12, 12, 12), 0.3), np.full((1, 12, 12, 12), 0.6)
    expected = (2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4)
    assert ms_ssim(x, y, 1.0)[0] == pytest.approx(expected)


def test_pyramid_features_are_block_means():
    values = RNG(0).random((2, 8, 8, 9)).astype(np.float32)
    features = PyramidFeatures("mr", (1.0, 1.0, 1.0))
    out = features(values)
    assert out.shape == (2, 1 + 1 + 8 + 64)
    assert out[:, 0] == pytest.approx(values.reshape(2, -1).std(1), rel=1e-5)
    assert out[0, 1] == pytest.approx(values[0].mean(), rel=1e-5)
    assert out[0, 2] == pytest.approx(values[0, :4, :4, :4].mean(), rel=1e-5)
    assert features.digest != PyramidFeatures("mask", (1.0, 1.0, 1.0)).digest
    masks = PyramidFeatures("mask", (1.0, 1.0, 1.0))(np.full((1, 8, 8, 8), -1.0))
    assert masks.shape == (1, 77) and np.isfinite(masks).all()


def test_standardised_leaves_out_what_does_not_vary():
    reference = np.array([[1.0, 5.0], [3.0, 5.0]])
    (out,) = standardised(reference, np.array([[5.0, 9.0]]))
    assert out.tolist() == [[3.0]]


def nodules(count: int, seed: int, name: str, spread: float = 0.3) -> Cohort:
    rng = RNG(seed)
    volume = 400.0 * np.exp(spread * rng.standard_normal(count))
    aspect = np.exp(spread * rng.standard_normal((count, 3)))
    values = 2 * soft_ellipsoids(volume, (12, 12, 12), (1.0,) * 3, aspect=aspect) - 1
    return Cohort(name, values, np.array([f"{name}{i}" for i in range(count)]))


@pytest.fixture(scope="module")
def clean() -> Evidence:
    training, holdout, made = (
        nodules(count, seed, name)
        for count, seed, name in ((80, 0, "training"), (40, 1, "held-out"), (40, 2, "generated"))
    )
    return Evidence(training, holdout, made, (1.0,) * 3, modality="mask")


def verdicts(evidence: Evidence, **options) -> dict:
    found = quality.judge(evidence, Options(planted=20, **options))
    return {s.finding.key.split(".")[1]: s for s in settle(found, alpha=0.05)}


def test_another_sample_of_patients_passes(clean):
    settled = verdicts(clean)
    finding = settled["distance"].finding
    assert settled["distance"].verdict == "pass"
    assert settled["diversity"].verdict in ("pass", "cannot tell")  # 40 volumes say little
    assert finding.controls[0].held
    assert finding.interval[0] < finding.value < finding.interval[1]
    assert [row[0] for row in finding.tables[0].rows][:2] == ["kernel distance", "Frechet distance"]
    assert finding.methods.count(PyramidFeatures("mask", (1.0,) * 3).digest) == 1


def test_a_set_of_little_variety_is_a_warning(clean):
    same = nodules(40, 3, "generated", spread=0.05)
    settled = verdicts(dataclasses.replace(clean, generated=same), quick=True)
    assert settled["diversity"].verdict == "warn"
    assert settled["distance"].verdict == "warn"
    assert settled["diversity"].finding.value < 0.5


def test_quality_needs_enough_volumes(clean):
    few = dataclasses.replace(clean, holdout=clean.holdout.subset(np.arange(19)))
    settled = verdicts(few, quick=True)
    assert settled["blank"].verdict == "pass"
    assert settled["distance"].verdict == "cannot tell"
    assert "at least 20 held-out volumes of as many subjects" in settled["distance"].sentence
    with pytest.raises(AuditError, match="no generated volumes"):
        quality.judge(dataclasses.replace(clean, generated=None), Options())


def test_blank_volumes_fail_and_are_named(clean):
    values = clean.generated.values.copy()
    values[7] = 0.25
    made = dataclasses.replace(clean.generated, values=values)
    blank = verdicts(dataclasses.replace(clean, generated=made), quick=True)["blank"]
    assert blank.verdict == "fail" and blank.sentence.startswith("1 of ")
    assert blank.finding.tables[0].rows == ((7, 0.25),)


def test_similarity_of_intensities_stands_in_a_table(clean):
    settled = verdicts(dataclasses.replace(clean, modality="ct"), quick=True)
    (table,) = settled["diversity"].finding.tables
    assert [row[0] for row in table.rows] == ["generated", "held-out"]
