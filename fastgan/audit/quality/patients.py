"""Patients stand beside generated volumes one volume each, so that nobody counts twice."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Integers, Texts
from fastgan.audit.evidence import Cohort, Evidence

__all__ = ["all_patients", "one_each"]


def one_each(subjects: Texts, rng: np.random.Generator) -> Integers:
    """Position of one volume of every subject [N], drawn at random."""
    order = rng.permutation(len(subjects))
    _, first = np.unique(subjects[order], return_index=True)
    return np.sort(order[first])


def all_patients(evidence: Evidence, rng: np.random.Generator) -> Cohort:
    """One volume of each training and held-out patient; labels and windows where both have them."""
    sides = [c.subset(one_each(c.subjects, rng)) for c in (evidence.training, evidence.holdout)]
    labels = [side.labels for side in sides if side.labels is not None]
    windows = [side.windows for side in sides if side.windows is not None]
    return Cohort(
        "patients",
        np.concatenate([side.values for side in sides]),
        np.concatenate([side.subjects for side in sides]),
        np.concatenate(labels) if len(labels) == 2 else None,
        subjects_named=all(side.subjects_named for side in sides),
        windows=np.concatenate(windows) if len(windows) == 2 else None,
    )
