"""A classifier whose scores are linear in the groups, so that permuting them costs a product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.statistics.group_tests import Groups, centred
from fastgan.errors import AuditError

__all__ = ["CrossFit", "auc_rows", "stratified_auc"]

Floats = NDArray[np.floating]

FOLDS = 5
_MOST_COMPONENTS = 60


class CrossFit:
    """A linear classifier that scores every subject by a fit to other subjects.

    Ridge regression of group membership on the principal components of the features, which is a
    regularised linear discriminant. The ridge is set by its degrees of freedom, a tenth of the
    number of subjects. Scores are linear in the membership, so permutations cost matrix products.

    Args:
        features: [N, F].
        subjects: [N] positions.
        strata: [N] positions; differences between strata are taken out of the features.
        rng: of the folds.

    Raises:
        AuditError: no feature varies, or fewer than ten subjects.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests" (the use); Hastie,
    Tibshirani and Friedman 2009, "The elements of statistical learning", 4.3 (the classifier).
    """

    def __init__(
        self,
        features: Floats,
        subjects: NDArray[np.integer],
        strata: NDArray[np.integer],
        rng: np.random.Generator,
    ) -> None:
        people = np.unique(subjects)
        if len(people) < 2 * FOLDS:
            raise AuditError(f"classifier: needs at least {2 * FOLDS} subjects, got {len(people)}")
        x = centred(features, strata).astype(np.float64)
        scale = x.std(axis=0)
        keep = scale > 1e-6 * max(float(np.abs(features).max(initial=0.0)), 1e-30)
        if not keep.any():
            raise AuditError("classifier: no feature varies")
        x = x[:, keep] / scale[keep]
        wide = x.shape[1] > len(x)  # the smaller of the two products has the same eigenvalues
        values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
        order = np.argsort(values)[::-1][:_MOST_COMPONENTS]
        order = order[values[order] > 1e-9 * values[order[0]]]
        chosen = vectors[:, order]
        self.components = chosen * np.sqrt(values[order]) if wide else x @ chosen
        """[N, P] principal components."""
        self.ridge = _ridge(values[order], max(2.0, len(people) / 10))
        fold_of = np.zeros(len(people), np.int64)
        fold_of[rng.permutation(len(people))] = np.arange(len(people)) % FOLDS
        self.folds = fold_of[np.searchsorted(people, subjects)]
        """[N] the fold in which each is scored."""

    def scores(self, targets: Floats) -> Floats:
        """Scores [R, N] of R memberships [R, N], each centred."""
        out = np.empty(targets.shape)
        for fold in range(FOLDS):
            test = self.folds == fold
            fitted = self.components[~test]
            normal = fitted.T @ fitted + self.ridge * np.eye(fitted.shape[1])
            own = targets[:, ~test] - targets[:, ~test].mean(axis=1, keepdims=True)
            weights = np.linalg.solve(normal, fitted.T @ own.T.astype(np.float64))
            # Without the mean of the other folds: it would order volumes by fold, not by content.
            out[:, test] = (self.components[test] @ weights).T
        return out

    def auc(self, groups: Groups, rows: NDArray[np.integer] | None = None) -> Floats:
        """[rows] `stratified_auc` of the groups' rows (all, or those chosen)."""
        at = np.arange(len(groups.codes)) if rows is None else rows
        areas = []
        for group in groups.contrasts:
            scores = self.scores(groups.contrast(group)[at])
            areas.append(stratified_auc(scores, groups.codes[at] == group, groups.strata))
        mean: Floats = np.mean(areas, axis=0)
        return mean


def _ridge(values: Floats, freedom: float) -> float:
    """Ridge at which sum(v / (v + ridge)) of the eigenvalues is `freedom`, or almost none."""
    low, high = 1e-6 * float(values[0]), 1e3 * float(values.sum())
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (
            (middle, high) if (values / (values + middle)).sum() > freedom else (low, middle)
        )
    return high


def auc_rows(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
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


def stratified_auc(
    scores: Floats, positive: NDArray[np.bool_], strata: NDArray[np.integer]
) -> Floats:
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
