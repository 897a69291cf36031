"""The area under the ROC curve says how well a score tells two classes apart."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Column, Floats, Integers
from fastgan.audit.statistics.intervals import bootstrap_interval

__all__ = ["area_under_curve", "auc", "auc_interval", "auc_rows", "stratified_auc"]


def area_under_curve(negative: Floats, positive: Floats) -> float:
    """Probability that a positive exceeds a negative, ties counted half (ROC AUC); NaN if either
    is empty.

    >>> area_under_curve(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    if not len(negative) or not len(positive):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left").sum()
    upto = np.searchsorted(ordered, positive, side="right").sum()
    return float((below + upto) / 2 / (len(negative) * len(positive)))


def auc(scores: Floats, positive: Bools) -> float:
    """ROC AUC of scores [N] for positives [N]; NaN where one of the two classes is missing.

    >>> auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    0.875
    """
    positive = np.asarray(positive, dtype=bool)
    return area_under_curve(np.asarray(scores)[~positive], np.asarray(scores)[positive])


def auc_interval(
    scores: Floats,
    positive: Bools,
    subjects: Column,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """`bootstrap_interval` of `auc`."""
    scores, positive = np.asarray(scores), np.asarray(positive, dtype=bool)
    return bootstrap_interval(
        lambda drawn: auc(scores[drawn], positive[drawn]), subjects, rng, draws, level
    )


def auc_rows(scores: Floats, positive: Bools) -> Floats:
    """Area under the curve of each row of scores [R, N] for positives [R, N], ties counted half.

    >>> auc_rows(np.array([[1.0, 2.0, 2.0, 3.0]]), np.array([[False, False, True, True]]))
    array([0.875])
    """
    order = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    ranks = np.broadcast_to(np.arange(1.0, scores.shape[1] + 1), scores.shape).copy()
    tied = ordered[:, 1:] == ordered[:, :-1]
    for row in np.nonzero(tied.any(axis=1))[0]:
        _, inverse, counts = np.unique(ordered[row], return_inverse=True, return_counts=True)
        ranks[row] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    chosen = np.take_along_axis(positive, order, axis=1)
    many = chosen.sum(axis=1)
    out: Floats = ((ranks * chosen).sum(axis=1) - many * (many + 1) / 2) / (
        many * (positive.shape[1] - many)
    )
    return out


def stratified_auc(scores: Floats, positive: Bools, strata: Integers) -> Floats:
    """[R] `auc_rows` within each stratum, averaged by its number of pairs.

    NaN where no stratum holds both.
    """
    total, weight = np.zeros(len(scores)), np.zeros(len(scores))
    for stratum in np.unique(strata):
        at = strata == stratum
        many = positive[:, at].sum(axis=1)
        pairs = many * (at.sum() - many)
        if pairs[0]:  # permutations within strata leave the counts as they are
            total += pairs * auc_rows(scores[:, at], positive[:, at])
            weight += pairs
    out: Floats = total / np.where(weight > 0, weight, np.nan)
    return out
