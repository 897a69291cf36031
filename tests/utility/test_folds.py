"""Patients are never on both sides, classes are everywhere, and too few are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgan.errors import AuditError
from fastgan.utility.folds import deal, inner_splits, smaller, thinned
from tests.utility.studies import cohort, study

COHORT = cohort(60, np.random.default_rng(0), volumes=2)


def shared(a: np.ndarray, b: np.ndarray) -> set[str]:
    return set(COHORT.subjects[a].tolist()) & set(COHORT.subjects[b].tolist())


def test_every_patient_is_tested_once_in_each_repeat_and_classes_are_dealt_alike() -> None:
    folds = deal(COHORT, study(folds=4, repeats=3))
    assert [fold.number for fold in folds] == list(range(12))
    for repeat in range(3):
        own = folds[4 * repeat : 4 * repeat + 4]
        tested = np.concatenate([fold.test for fold in own])
        assert sorted(tested.tolist()) == list(range(len(COHORT)))
        for fold in own:
            assert shared(fold.train, fold.test) == set()
            assert COHORT.positive[fold.test].sum() == 10
    assert set(folds[0].test.tolist()) != set(folds[4].test.tolist())


def test_the_same_seed_deals_the_same_folds_and_another_one_others() -> None:
    first, again = deal(COHORT, study()), deal(COHORT, study())
    other = deal(COHORT, study(seed=1))
    assert all((a.test == b.test).all() for a, b in zip(first, again, strict=True))
    assert any(list(a.test) != list(b.test) for a, b in zip(first, other, strict=True))


def test_thinning_leaves_the_share_and_every_negative() -> None:
    at = np.arange(len(COHORT))
    left = thinned(COHORT, at, 0.1, np.random.default_rng(0))
    positive = COHORT.positive[left]
    assert positive.sum() == 8  # four patients of two volumes: 8 of 88 is the most below a tenth
    assert (~positive).sum() == (~COHORT.positive).sum()
    assert thinned(COHORT, at, None, np.random.default_rng(0)) is at
    assert thinned(COHORT, at, 0.9, np.random.default_rng(0)) is at


def test_inner_splits_and_curves_stay_within_training() -> None:
    fold = deal(COHORT, study(thin=0.2))[0]
    for at, to_choose in inner_splits(COHORT, fold.fit, study(inner={"splits": 3}), 0):
        assert shared(at, to_choose) == set() and shared(to_choose, fold.test) == set()
        assert sorted([*at, *to_choose]) == sorted(fold.fit)
        assert {True, False} == set(COHORT.positive[to_choose]) == set(COHORT.positive[at])
    half = smaller(COHORT, fold.fit, 0.5, np.random.default_rng(0))
    assert set(half) < set(fold.fit)
    assert len(np.unique(COHORT.subjects[half])) == pytest.approx(
        len(np.unique(COHORT.subjects[fold.fit])) / 2, abs=1
    )


def test_a_patient_of_both_classes_is_on_one_side() -> None:
    positive = COHORT.positive.copy()
    positive[::2] = ~positive[::2]
    mixed = replace(COHORT, positive=positive, labels=positive.astype(np.int64))
    with pytest.raises(AuditError, match="0 negative patients are too few"):
        deal(mixed, study())


@pytest.mark.parametrize(
    ("patients", "folds", "told"),
    [
        (15, 3, "5 positive patients are too few for 3 folds, at least 6 are needed"),
        (60, 20, "20 positive patients are too few for 20 folds, at least 40"),
    ],
)
def test_too_few_patients_are_refused_with_the_number_that_would_do(
    patients: int, folds: int, told: str
) -> None:
    with pytest.raises(AuditError, match=told):
        deal(cohort(patients, np.random.default_rng(0)), study(folds=folds))


def test_a_class_that_is_missing_is_refused() -> None:
    healthy = replace(COHORT, positive=np.zeros(len(COHORT), bool))
    with pytest.raises(AuditError, match="0 positive patients are too few"):
        deal(healthy, study())


def test_thinning_to_nobody_is_refused() -> None:
    with pytest.raises(AuditError, match=r"thin: 0\.01 leaves 0 positive patients"):
        deal(COHORT, study(thin=0.01))
