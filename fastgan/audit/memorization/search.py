"""Searches are made once here, and both questions of memorization use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.memorization.copy_search import NEIGHBOURS, CopySearch, Found, coarse
from fastgan.audit.memorization.outliers import isolation
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.descriptors import size_of

__all__ = ["Searched", "isolations", "searched"]

Pair = tuple[Found, Found]
"""Neighbours of volumes that were moved, and of volumes that were moved and mirrored."""

# Training volumes whose own neighbours are looked up; more would not sharpen the null much.
_MOST_NULL = 1000
# Held-out neighbours of a held-out volume, so that half of the subjects can be taken away.
_HELD_NEIGHBOURS = 32


def isolations(pair: Pair) -> tuple[Floats, Floats]:
    """The isolation [N] by each search."""
    return isolation(pair[0].distance), isolation(pair[1].distance)


@dataclass(frozen=True)
class Searched:
    """Volumes of the grid that is searched, their subjects' numbers and their neighbours."""

    training: Floats
    """[M, d, h, w]"""
    training_subject: Integers
    n_training: int
    size_third: Integers
    """[M] 0, 1 or 2: the third of training volumes by size of the body."""
    holdout_subject: Integers
    n_holdout: int
    in_training: CopySearch
    in_holdout: CopySearch
    left_out: Integers
    """[L] training volumes whose own neighbours were looked up."""
    of_training: Pair
    """[L] in training volumes of other subjects."""
    of_training_held: Found
    """[L] in held-out volumes."""
    of_holdout: Pair
    """[H] in training."""
    of_holdout_held: Found
    """[H] held-out volumes of other subjects."""
    of_generated: Pair
    """[G] in training."""
    of_generated_held: Found
    """[G] nearest held-out volume."""
    generated: Integers
    """[G] positions of those searched for among all generated volumes."""
    spacing: tuple[float, float, float]

    @property
    def typical(self) -> float:
        """Median distance of a held-out volume to the nearest training volume."""
        return float(np.median(self.of_holdout[0].distance[:, 0]))

    def null(self) -> tuple[Floats, Floats]:
        """Isolation of the volumes that are no copies, held-out ones first, by each search."""
        held, trained = isolations(self.of_holdout), isolations(self.of_training)
        return np.concatenate([held[0], trained[0]]), np.concatenate([held[1], trained[1]])


def searched(evidence: Evidence, options: Options) -> Searched:
    """Every search, after the checks.

    Raises:
        AuditError: as `memorization.judge`.
    """
    training, holdout, made = _checked(evidence)
    small = {cohort.name: coarse(cohort.values) for cohort in (training, holdout, made)}
    known, training_subject = np.unique(training.subjects, return_inverse=True)
    held, holdout_subject = np.unique(holdout.subjects, return_inverse=True)
    varies = np.ptp(small[made.name].reshape(len(made), -1), axis=1) > 0
    if not varies.any():
        raise AuditError(f"memorization: all {len(made)} generated volumes are constant")
    ours, behind, drawn = small[training.name], small[holdout.name], small[made.name][varies]
    left_out = np.arange(len(ours))
    if len(ours) > _MOST_NULL:
        rng = options.rng("memorization/null")
        left_out = np.sort(rng.choice(len(ours), _MOST_NULL, replace=False))
    in_training = CopySearch(ours, training_subject)
    in_holdout = CopySearch(behind, holdout_subject)
    others = len(behind) - int(np.bincount(holdout_subject).max())
    if others < 1:
        raise AuditError("memorization: needs held-out volumes of at least 2 subjects")
    thirds = np.empty(len(ours), np.int64)
    order = np.argsort(size_of(ours), kind="stable")
    for third, members in enumerate(np.array_split(order, 3)):
        thirds[members] = third
    return Searched(
        ours,
        training_subject,
        len(known),
        thirds,
        holdout_subject,
        len(held),
        in_training,
        in_holdout,
        left_out,
        in_training.search(ours[left_out], groups=training_subject[left_out]),
        in_holdout.search(ours[left_out], min(NEIGHBOURS, len(behind)))[1],
        in_training.search(behind),
        in_holdout.search(behind, min(_HELD_NEIGHBOURS, others), holdout_subject)[1],
        in_training.search(drawn),
        in_holdout.search(drawn, 1)[1],
        np.flatnonzero(varies),
        evidence.spacing,
    )


def _checked(evidence: Evidence) -> tuple[Cohort, Cohort, Cohort]:
    """Training, held-out and generated volumes that can be compared."""
    if evidence.translate is not None:
        raise NotAsked(
            "a translation follows its source, so its distance to training volumes "
            "of the other domain says nothing of copying"
        )
    made = evidence.require_generated()
    training, holdout = evidence.training, evidence.holdout
    for cohort in (training, holdout):
        if not len(cohort):
            raise AuditError(f"memorization: no {cohort.name} volumes")
        if cohort.values.shape[1:] != made.values.shape[1:]:
            raise AuditError(
                f"memorization: generated volumes are {made.values.shape[1:]}, {cohort.name} ones "
                f"{cohort.values.shape[1:]}"
            )
        flat = cohort.values.reshape(len(cohort), -1)
        constant = int(np.count_nonzero(np.ptp(flat, axis=1) == 0))
        if constant:
            raise AuditError(
                f"memorization: {constant} of {len(cohort)} {cohort.name} volumes are constant"
            )
    shared = np.intersect1d(training.subjects, holdout.subjects)
    if len(shared):
        raise AuditError(
            f"memorization: {len(shared)} held-out subjects are in the training set, too; held-out "
            "volumes say what chance does only if their subjects were never trained on"
        )
    return training, holdout, made
