"""Does the generated set hold volumes like each patient tested, as patients of training do?"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.utility.cohort import Cohort
from fastgan.utility.folds import Fold
from fastgan.utility.generators import Generated
from fastgan.utility.learners import coarse

__all__ = ["NEIGHBOURS", "covered"]

NEIGHBOURS = 3


def covered(
    cohort: Cohort, fold: Fold, made: Generated, rng: np.random.Generator
) -> dict[str, Any]:
    """Whether each volume tested has one near it, among patients and among generated volumes.

    Training volumes of its class are halved by patients. Near is what lies within the distance of
    the third nearest of the first half; the other half, and as many generated volumes of the
    class, are then asked alike, so that the former is the floor of the latter.

    Returns:
        "real" and "generated": a list of 0 and 1 for the volumes tested, in coarse blocks of 4^3.
    """
    features = coarse(cohort.values)
    drawn = coarse(made.values)
    real = np.zeros(len(fold.test), bool)
    generated = np.zeros(len(fold.test), bool)
    for positive in (False, True):
        at = fold.fit[cohort.positive[fold.fit] == positive]
        names = rng.permutation(np.unique(cohort.subjects[at]))
        first = np.isin(cohort.subjects[at], names[: (len(names) + 1) // 2])
        tested = cohort.positive[fold.test] == positive
        pool = drawn[made.positive == positive]
        pool = pool[rng.permutation(len(pool))[: max(int((~first).sum()), 1)]]
        x = features[fold.test[tested]]
        if not first.any() or first.all() or not len(x):
            continue
        near = np.sort(_distances(x, features[at[first]]), axis=1)
        reach = near[:, min(NEIGHBOURS, near.shape[1]) - 1]
        real[tested] = _within(x, features[at[~first]], reach)
        generated[tested] = _within(x, pool, reach)
    return {"real": real.astype(int).tolist(), "generated": generated.astype(int).tolist()}


def _within(x: Floats, others: Floats, reach: Floats) -> Bools:
    inside: Bools = _distances(x, others).min(axis=1) <= reach
    return inside


def _distances(a: Floats, b: Floats) -> Floats:
    """[N, M] Euclidean distances; the few thousand rows of a fold fit into memory."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2.0 * a @ b.T
    out: Floats = np.sqrt(np.maximum(square, 0.0))
    return out
