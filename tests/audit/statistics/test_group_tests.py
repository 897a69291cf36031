"""The tests of groups against SciPy and scikit-learn, plain loops, and planted differences."""

import numpy as np
import pytest

from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.audit.statistics.group_tests import Groups, centred, max_t, mean_discrepancy
from fastgan.audit.statistics.roc import auc_rows
from fastgan.errors import AuditError


def sample(n=60, features=5, per_subject=1, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(n // per_subject), per_subject)
    group = rng.permutation(n // per_subject)[people] % 2
    values = rng.standard_normal((n, features)) + rng.standard_normal((n // per_subject, 1))[people]
    values[:, 0] += shift * group
    return values, group, people


def groups_of(group, people, strata=None, permutations=199, seed=1):
    return Groups(group, people, strata, np.random.default_rng(seed), permutations)


def test_rows_keep_subjects_whole_and_strata_counts():
    _, group, people = sample(60, per_subject=3)
    strata = (people % 4 == 0).astype(int)
    groups = groups_of(group, people, strata)
    for row in groups.codes:
        assert (row.reshape(-1, 3) == row[::3, None]).all()
        for stratum in (0, 1):
            assert row[strata == stratum].sum() == group[strata == stratum].sum()
    assert groups.contrast(1).shape == (200, 60)
    assert np.abs(groups.contrast(1)[:, strata == 0].sum(axis=1)).max() < 1e-4


def test_max_t_is_the_plain_loop():
    values, group, people = sample(40, features=7, shift=1.0)
    groups = groups_of(group, people, permutations=99)
    result = max_t(groups, values)
    gaps = np.array([values[r == 1].mean(0) - values[r == 0].mean(0) for r in groups.codes])
    t = np.abs((gaps - gaps.mean(0)) / gaps.std(0))
    np.testing.assert_allclose(np.abs(result.t[0]), t[0], rtol=1e-4)
    for feature in range(7):
        above = (t[1:].max(axis=1) * (1 + 1e-6) >= t[0, feature]).sum()
        assert result.p_adjusted[0, feature] == (1 + above) / 100
    assert result.p == result.p_adjusted.min()


def test_a_planted_shift_is_found_where_it_is():
    values, group, people = sample(120, shift=1.5)
    result = max_t(groups_of(group, people), values)
    assert result.p == 1 / 200
    assert result.p_adjusted[0, 0] == 1 / 200 and result.p_adjusted[0, 1:].min() > 0.1


def test_a_shift_that_the_label_explains_is_none():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    group = (rng.random(200) < np.where(label == 1, 0.8, 0.2)).astype(int)
    values = (rng.standard_normal(200) + 2.0 * label)[:, None]
    assert max_t(groups_of(group, np.arange(200)), values).p < 0.01
    assert max_t(groups_of(group, np.arange(200), strata=label), values).p > 0.05


def test_constant_features_have_no_t():
    values, group, people = sample(40)
    values[:, 2] = 0.3
    result = max_t(groups_of(group, people), values)
    assert result.t[0, 2] == 0.0 and result.p_adjusted[0, 2] == 1.0


@pytest.mark.parametrize("levels", [4, 10_000])
def test_auc_rows_is_scikit_learns(levels):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = rng.integers(0, levels, (5, 50)).astype(float)
    positive = rng.random((5, 50)) < 0.4
    expected = [metrics.roc_auc_score(p, s) for p, s in zip(positive, scores, strict=True)]
    np.testing.assert_allclose(auc_rows(scores, positive), expected, rtol=1e-12)


def test_scores_are_ridge_regression_fitted_to_the_other_subjects():
    linear = pytest.importorskip("sklearn.linear_model")
    values, group, people = sample(60, per_subject=2, shift=1.0)
    zero = np.zeros(60, np.int64)
    fit = CrossFit(values, people, zero, np.random.default_rng(0))
    target = groups_of(group, people).contrast(1)[:2]
    scores = fit.scores(target)
    for subject in np.unique(people):
        assert len(np.unique(fit.folds[people == subject])) == 1
    fold = fit.folds == 0
    for row in range(2):
        own = target[row][~fold] - target[row][~fold].mean()
        ridge = linear.Ridge(alpha=fit.ridge, fit_intercept=False).fit(fit.components[~fold], own)
        np.testing.assert_allclose(
            scores[row][fold], ridge.predict(fit.components[fold]), rtol=1e-5
        )


def test_more_features_than_volumes_are_scored_alike():
    linear = pytest.importorskip("sklearn.linear_model")
    values, group, people = sample(50, features=80, shift=1.0)
    fit = CrossFit(values, people, np.zeros(50, np.int64), np.random.default_rng(0))
    target = groups_of(group, people).contrast(1)[:1]
    scores = fit.scores(target)[0]
    x = (values - values.mean(0)) / values.std(0)
    for fold in range(5):
        test = fit.folds == fold
        own = target[0][~test] - target[0][~test].mean()
        ridge = linear.Ridge(alpha=fit.ridge, fit_intercept=False).fit(x[~test], own)
        np.testing.assert_allclose(scores[test], ridge.predict(x[test]), rtol=1e-3, atol=1e-5)


def test_ridge_has_a_tenth_of_the_subjects_as_degrees_of_freedom():
    values = np.random.default_rng(0).standard_normal((200, 50))
    fit = CrossFit(values, np.arange(200), np.zeros(200, np.int64), np.random.default_rng(0))
    eigen = (fit.components**2).sum(axis=0)
    assert (eigen / (eigen + fit.ridge)).sum() == pytest.approx(20, rel=1e-3)


def test_classifier_finds_a_shift_and_nothing_else():
    for shift, found in ((1.5, True), (0.0, False)):
        values, group, people = sample(120, shift=shift, seed=3)
        groups = groups_of(group, people)
        auc = CrossFit(values, people, groups.strata, np.random.default_rng(0)).auc(groups)
        assert (groups.p(auc) <= 0.01) == found
        assert (auc[0] > 0.7) == found


def test_mean_discrepancy_is_the_definition():
    values, group, people = sample(20, per_subject=2, shift=1.0)
    groups = groups_of(group, people, permutations=3)
    distance = ((values[:, None] - values) ** 2).sum(-1)
    apart = people[:, None] != people
    scale = np.median(distance[apart])
    kernel = np.mean([np.exp(-distance / (2 * f * f * scale)) for f in (0.5, 1, 2)], axis=0)

    def mean(a, b):
        pairs = np.ix_(a, b)
        return kernel[pairs][apart[pairs]].mean()

    expected = [
        mean(r == 0, r == 0) + mean(r == 1, r == 1) - 2 * mean(r == 0, r == 1) for r in groups.codes
    ]
    np.testing.assert_allclose(mean_discrepancy(groups, values), expected, atol=1e-5)


def test_mean_discrepancy_is_unbiased_and_finds_three_groups():
    rng = np.random.default_rng(0)
    null = []
    for seed in range(200):
        values, group, people = sample(24, features=3, seed=seed)
        null.append(mean_discrepancy(groups_of(group, people, permutations=1), values)[0])
    assert abs(np.mean(null)) < 3 * np.std(null) / np.sqrt(200)
    group = np.arange(90) % 3
    values = rng.standard_normal((90, 4)) + (group == 2)[:, None]
    groups = groups_of(group, np.arange(90))
    assert len(groups.contrasts) == 3
    assert groups.p(mean_discrepancy(groups, values)) == 1 / 200


def test_centred_takes_out_stratum_means():
    values = np.array([[1.0], [3.0], [10.0]])
    assert centred(values, np.array([0, 0, 1])).ravel().tolist() == [-1.0, 1.0, 0.0]


def test_rejects_one_group_few_subjects_and_nothing_that_varies():
    values, group, people = sample(40)
    with pytest.raises(AuditError, match="two groups"):
        groups_of(np.zeros(40, int), people)
    with pytest.raises(AuditError, match="nothing can be exchanged"):
        groups_of(group, people, strata=np.arange(40))
    rng, zero = np.random.default_rng(0), np.zeros(40, np.int64)
    with pytest.raises(AuditError, match="at least 10 subjects, got 4"):
        CrossFit(values, people % 4, zero, rng)
    with pytest.raises(AuditError, match="no feature varies"):
        CrossFit(np.ones((40, 3)), people, zero, rng)


def test_discriminant_is_ridge_regression_of_standardised_features():
    rng = np.random.default_rng(0)
    x, y, others = rng.standard_normal((40, 3)) * [1, 5, 1], rng.random(40) < 0.4, np.eye(3)
    x[:, 2] = 7.0  # what does not vary while fitting says nothing
    found = discriminant_scores(x, y, others, ridge=0.5)
    z, mean, sd = x[:, :2], x[:, :2].mean(axis=0), x[:, :2].std(axis=0)
    # Least squares of the rows and, below them, of the ridge: sqrt(0.5 * 40) I against 0.
    rows = np.vstack([(z - mean) / sd, np.sqrt(20.0) * np.eye(2)])
    weights = np.linalg.lstsq(rows, np.r_[y - y.mean(), 0.0, 0.0], rcond=None)[0]
    np.testing.assert_allclose(found, (others[:, :2] - mean) / sd @ weights)
