"""Who is trained on and who is tested: whole patients, each class in every part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Integers
from fastgan.errors import AuditError
from fastgan.random import Draws
from fastgan.utility.cohort import Cohort
from fastgan.utility.settings import Study

__all__ = ["Fold", "deal", "inner_splits", "smaller", "thinned"]

LEAST_TESTED, LEAST_TRAINED = 2, 4
"""Patients of either class in the test part of a fold, and in its training part."""


@dataclass(frozen=True)
class Fold:
    """Positions of volumes in the cohort; no patient is on both sides.

    Attributes:
        number: from 0, over all repeats.
        train, test: as they are.
        fit: what is trained on: `train`, thinned where the study says so.
    """

    number: int
    train: Integers
    test: Integers
    fit: Integers


def deal(cohort: Cohort, study: Study) -> list[Fold]:
    """The outer folds, a function of the patients and the study's seed alone.

    Raises:
        AuditError: too few patients of a class; says how many would do.
    """
    folds: list[Fold] = []
    for repeat in range(study.repeats):
        rng = Draws(study.seed).numpy(repeat, "utility/folds")
        part = _parts(cohort, study.folds, rng)
        for k in range(study.folds):
            train, test = np.flatnonzero(part != k), np.flatnonzero(part == k)
            number = repeat * study.folds + k
            fit = thinned(
                cohort, train, study.thin, Draws(study.seed).numpy(number, "utility/thin")
            )
            folds.append(Fold(number, train, test, fit))
    return folds


def _parts(cohort: Cohort, folds: int, rng: np.random.Generator) -> Integers:
    """[N] fold that tests each volume."""
    names, who = np.unique(cohort.subjects, return_inverse=True)
    positive = np.zeros(len(names), bool)
    positive[who[cohort.positive]] = True
    part = np.empty(len(names), np.int64)
    begin = 0
    for name, at in (("positive", positive), ("negative", ~positive)):
        needed = max(LEAST_TESTED * folds, LEAST_TRAINED + LEAST_TESTED)
        if at.sum() < needed:
            raise AuditError(
                f"folds: {int(at.sum())} {name} patients are too few for {folds} folds, at least "
                f"{needed} are needed; take fewer folds or more patients"
            )
        order = rng.permutation(np.flatnonzero(at))
        # The second class goes on where the first stopped, so that folds are of equal size.
        part[order] = (np.arange(len(order)) + begin) % folds
        begin += len(order)
    return part[who]


def thinned(
    cohort: Cohort, at: Integers, share: float | None, rng: np.random.Generator
) -> Integers:
    """Positions `at` without so many positive patients' positive volumes that `share` remains.

    Raises:
        AuditError: fewer than 4 positive patients would remain.
    """
    if share is None:
        return at
    positive = cohort.positive[at]
    most = share / (1.0 - share) * int((~positive).sum())
    if positive.sum() <= most:
        return at
    own = cohort.subjects[at]
    kept: list[str] = []
    count = 0
    for subject in rng.permutation(np.unique(own[positive])):
        here = int((positive & (own == subject)).sum())
        if count + here <= most:
            kept.append(str(subject))
            count += here
    if len(kept) < LEAST_TRAINED:
        raise AuditError(
            f"thin: {share:g} leaves {len(kept)} positive patients in training, at least "
            f"{LEAST_TRAINED} are needed; thin less, or take more patients"
        )
    return at[~positive | np.isin(own, kept)]


def inner_splits(
    cohort: Cohort, at: Integers, study: Study, number: int
) -> list[tuple[Integers, Integers]]:
    """(to fit, to choose by) of a fold's training positions, patients apart."""
    rng = Draws(study.seed).numpy(number, "utility/inner")
    found = []
    for _ in range(study.inner.splits):
        chosen = _drawn(cohort, at, study.inner.share, rng)
        found.append((at[~chosen], at[chosen]))
    return found


def smaller(cohort: Cohort, at: Integers, share: float, rng: np.random.Generator) -> Integers:
    """`share` of the patients of positions `at`, of each class alike."""
    return at[_drawn(cohort, at, share, rng)]


def _drawn(cohort: Cohort, at: Integers, share: float, rng: np.random.Generator) -> Bools:
    """[len(at)] those of `share` of the patients; of either class at least one, and not all."""
    own, positive = cohort.subjects[at], cohort.positive[at]
    with_positive = np.unique(own[positive])
    chosen: list[str] = []
    for group in (with_positive, np.setdiff1d(np.unique(own), with_positive)):
        count = min(max(round(share * len(group)), 1), len(group) - 1)
        if count < 1:
            raise AuditError(
                f"folds: {len(group)} patients of a class in training cannot be split; thin less, "
                "or take more patients"
            )
        chosen += rng.permutation(group)[:count].tolist()
    return np.isin(own, chosen)
