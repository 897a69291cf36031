"""The statistics against closed forms, published values and scipy."""

from collections import Counter

import numpy as np
import pytest

from fastgan.audit.statistics import (
    Exchange,
    area_under_curve,
    auc,
    auc_interval,
    bootstrap_interval,
    clopper_pearson,
    holm,
    permutation_p,
    subject_bootstrap,
    two_sample_interval,
)
from fastgan.audit.statistics.pareto import LEAST_EXCESSES, ParetoTail
from fastgan.errors import AuditError

# runs without a single finding -> the rate that they certify at 95 %
CERTIFIED = {99: 0.030, 299: 0.010}


def test_permutation_p_is_never_zero_and_counts_ties():
    assert permutation_p(9.0, np.zeros(999)) == 0.001
    assert permutation_p(0.0, np.zeros(999)) == 1.0


def test_holm_is_holms_example():
    # Holm 1979: p sorted against alpha / (n - i).
    np.testing.assert_allclose(holm([0.01, 0.02, 0.02, 0.5]), [0.04, 0.06, 0.06, 0.5])
    with pytest.raises(ValueError, match="holm"):
        holm([0.2, np.nan])


@pytest.mark.parametrize(("runs", "rate"), CERTIFIED.items())
def test_clopper_pearson_without_findings_is_the_closed_form(runs, rate):
    _, high = clopper_pearson(0, runs, side="upper")
    assert high == pytest.approx(1 - 0.05 ** (1 / runs), abs=1e-12)
    assert high == pytest.approx(rate, abs=5e-4)


def test_clopper_pearson_certifies_one_percent_with_ten_of_1693():
    assert clopper_pearson(10, 1693, side="upper")[1] <= 0.01
    assert clopper_pearson(10, 1692, side="upper")[1] > 0.01
    assert clopper_pearson(11, 1693, side="upper")[1] > 0.01


@pytest.mark.parametrize(("found", "runs"), [(0, 1), (1, 1), (3, 7), (50, 100), (299, 300)])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_clopper_pearson_is_scipys(found, runs, level):
    stats = pytest.importorskip("scipy.stats")
    result = stats.binomtest(found, runs).proportion_ci(level, "exact")
    assert clopper_pearson(found, runs, level) == pytest.approx((result.low, result.high))
    lower = stats.binomtest(found, runs, alternative="greater").proportion_ci(level, "exact")
    assert clopper_pearson(found, runs, level, "lower") == pytest.approx((lower.low, 1.0))


def test_clopper_pearson_rejects_impossible_counts():
    for found, runs in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="clopper_pearson"):
            clopper_pearson(found, runs)


def test_exchange_moves_subjects_as_units():
    rng = np.random.default_rng(0)
    subjects = np.array(["a", "b", "a", "c", "b", "c", "d"])
    labels = np.array([0, 1, 0, 2, 1, 2, 9])
    seen = set()
    for _ in range(60):
        drawn = Exchange(subjects).draw(labels, rng)
        for subject in "abcd":
            assert len(set(drawn[subjects == subject])) == 1
        assert drawn[6] == 9  # the only one with a single volume stays
        seen.add(tuple(drawn))
    assert len(seen) == 6  # all orders of three subjects


def test_exchange_keeps_patterns_of_mixed_subjects():
    subjects = np.repeat(np.arange(20), 2)
    labels = np.tile([0, 1, 1, 1], 10)
    before = Counter(map(tuple, labels.reshape(-1, 2)))
    drawn = Exchange(subjects).draw(labels, np.random.default_rng(1))
    assert Counter(map(tuple, drawn.reshape(-1, 2))) == before
    assert not np.array_equal(drawn, labels)


def test_exchange_stays_within_strata_wherever_a_subjects_volumes_lie():
    rng = np.random.default_rng(2)
    subjects = rng.permutation(np.repeat(np.arange(40), 3))
    strata = rng.integers(2, size=120)
    labels = rng.integers(5, size=120)
    for _ in range(10):
        drawn = Exchange(subjects, strata).draw(labels, rng)
        for stratum in (0, 1):
            inside = strata == stratum
            assert Counter(drawn[inside]) == Counter(labels[inside])


def test_permutations_of_a_group_are_equally_likely():
    moves = Exchange(np.arange(3))
    rng = np.random.default_rng(3)
    drawn = Counter(tuple(moves.draw(np.arange(3), rng)) for _ in range(6000))
    assert len(drawn) == 6
    chi_square = sum((count - 1000) ** 2 / 1000 for count in drawn.values())
    assert chi_square < 20.5  # 99.9 % point with five degrees of freedom


def test_exchange_says_when_nothing_can_move():
    with pytest.raises(AuditError, match="no two of 2 subjects"):
        Exchange(np.array([0, 1, 1]))


def test_subject_bootstrap_draws_whole_subjects():
    subjects = np.array(["b", "a", "b", "c", "b"])
    draws = list(subject_bootstrap(subjects, np.random.default_rng(0), 200))
    times = np.array([[np.count_nonzero(drawn == i) for i in range(5)] for drawn in draws])
    assert (times[:, 0] == times[:, 2]).all() and (times[:, 0] == times[:, 4]).all()
    assert (times[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_bootstrap_interval_of_a_mean_is_the_normal_one():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    low, high = bootstrap_interval(lambda i: x[i].mean(), np.arange(400), rng, 4000)
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.008)


def test_bootstrap_interval_widens_with_the_subject_as_unit():
    rng = np.random.default_rng(1)
    x = np.repeat(rng.standard_normal(100), 4)
    per_volume = bootstrap_interval(lambda i: x[i].mean(), np.arange(400), rng, 2000)
    per_subject = bootstrap_interval(lambda i: x[i].mean(), np.repeat(np.arange(100), 4), rng, 2000)
    assert np.ptp(per_subject) / np.ptp(per_volume) == pytest.approx(2.0, rel=0.1)


def test_bootstrap_interval_of_few_subjects_reaches_as_far_as_students():
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(400):
        x = rng.standard_normal(12)
        low, high = bootstrap_interval(lambda i, x=x: x[i].mean(), np.arange(12), rng, 300)
        missed += not low <= 0 <= high
    # 5 % and 1.4 standard deviations of 400 draws; plain percentiles miss in 9 %.
    assert missed / 400 <= 0.065


def test_two_sample_interval_of_a_difference_is_welchs():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal(400), 2 * rng.standard_normal(200)
    low, high = two_sample_interval(
        lambda i, j: a[i].mean() - b[j].mean(), (np.arange(400), np.arange(200)), rng, 4000
    )
    half = 1.96 * np.sqrt(a.var() / 400 + b.var() / 200)
    middle = a.mean() - b.mean()
    assert low == pytest.approx(middle - half, abs=0.1 * half)
    assert high == pytest.approx(middle + half, abs=0.1 * half)


def test_bootstrap_interval_refuses_what_is_mostly_undefined():
    with pytest.raises(AuditError, match="at least 2 subjects"):
        bootstrap_interval(len, np.zeros(5), np.random.default_rng(0))
    with pytest.raises(AuditError, match="undefined in 1000 of 1000"):
        bootstrap_interval(lambda _: np.nan, np.arange(5), np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learns(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 31), rng.integers(2, 11, 17)
    positive = np.r_[np.zeros(31), np.ones(17)]
    expected = metrics.roc_auc_score(positive, np.r_[a, b])
    assert auc(np.r_[a, b], positive == 1) == pytest.approx(expected)
    assert area_under_curve(a, b) == pytest.approx(expected)


def test_auc_interval_covers_the_closed_form():
    rng = np.random.default_rng(0)
    truth = 0.7602  # two normals one standard deviation apart: Phi(1 / sqrt 2)
    covered = 0
    for _ in range(40):
        positive = np.arange(120) < 60
        scores = rng.standard_normal(120) + positive
        low, high = auc_interval(scores, positive, np.arange(120), rng, draws=200)
        covered += low <= truth <= high
    assert covered >= 34
    assert np.isnan(auc(np.ones(3), np.ones(3, bool)))


@pytest.mark.parametrize("shape", [0.15, 0.5])
def test_pareto_tail_finds_scale_and_shape_of_its_own_kind(shape):
    rng = np.random.default_rng(0)
    null = ((1 - rng.random(40000)) ** -shape - 1) / shape
    tail = ParetoTail.fit(null)
    # Beyond a threshold t a Pareto tail keeps its shape and has scale 1 + shape t.
    assert tail.shape == pytest.approx(shape, abs=0.06)
    assert tail.scale == pytest.approx(1 + shape * tail.threshold, rel=0.08)
    far = (1e-5**-shape - 1) / shape
    assert np.log10(tail.p(np.array([far]))[0]) == pytest.approx(-5, abs=0.5)


def test_pareto_tail_below_its_threshold_counts():
    null = np.arange(1000.0)
    assert ParetoTail.fit(null).p(np.array([500.0, -1.0])).tolist() == [501 / 1001, 1.0]


def test_pareto_tail_falls_and_is_never_zero():
    rng = np.random.default_rng(0)
    tail = ParetoTail.fit(rng.random(2000))  # its own end is at 1
    p = tail.p(np.array([0.99, 1.0, 1.1, 2.0, np.inf]))
    assert (np.diff(p) < 0).all() and p[-1] > 0
    assert tail.shape == 0.1
    assert p[2] > 1e-4  # a little beyond the largest of 2,000 is no miracle


def test_pareto_scale_at_a_given_shape_is_the_likeliest():
    stats = pytest.importorskip("scipy.stats")
    excess = np.sort(np.random.default_rng(0).random(100))
    tail = ParetoTail.fit(np.concatenate([np.zeros(1900), excess]))
    likelihood = [
        stats.genpareto.logpdf(excess, 0.1, scale=tail.scale * by).sum() for by in (0.99, 1, 1.01)
    ]
    assert likelihood[1] == max(likelihood)


def test_pareto_tail_refuses_what_it_cannot_fit():
    with pytest.raises(AuditError, match=f"at least {20 * LEAST_EXCESSES} null values, got 199"):
        ParetoTail.fit(np.arange(199.0))
    with pytest.raises(AuditError, match="no spread"):
        ParetoTail.fit(np.ones(400))
    with pytest.raises(AuditError, match="finite"):
        ParetoTail.fit(np.full(400, np.nan))
