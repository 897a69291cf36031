"""The scores of this classifier are linear in the groups: permuting them costs a product."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.statistics.discriminant import ridge_weights
from fastgan.audit.statistics.group_tests import Groups, centred
from fastgan.audit.statistics.roc import stratified_auc
from fastgan.errors import AuditError

__all__ = ["CrossFit"]

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
        subjects: Integers,
        strata: Integers,
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
            own = targets[:, ~test] - targets[:, ~test].mean(axis=1, keepdims=True)
            weights = ridge_weights(fitted, own.T.astype(np.float64), self.ridge)
            # Without the mean of the other folds: it would order volumes by fold, not by content.
            out[:, test] = (self.components[test] @ weights).T
        return out

    def auc(self, groups: Groups, rows: Integers | None = None) -> Floats:
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
