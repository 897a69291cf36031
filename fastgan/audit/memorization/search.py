"""Searches are made once here, and both questions of memorization use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.likeness.copy_search import NEIGHBOURS, coarse
from fastgan.audit.likeness.local_contrast import ContrastSpace, local_contrast
from fastgan.audit.likeness.searches import Near, Searches
from fastgan.audit.likeness.twins import LEAST, Twins
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.descriptors import size_of

__all__ = ["Searched", "searched"]

# Training volumes whose own neighbours are looked up; more would not sharpen the null much.
_MOST_NULL = 1000
# Of subjects: each is looked up in a space that was fitted to the others.
_FOLDS = 4
# Held-out neighbours of a held-out volume, so that half of the subjects can be taken away.
_HELD_NEIGHBOURS = 32


@dataclass(frozen=True)
class Searched:
    """Volumes of the grid that is searched, their subjects' numbers and their neighbours."""

    training: Floats
    """[M, d, h, w]"""
    training_subject: Integers
    n_training: int
    size_third: Integers
    """[M] 0, 1 or 2: the third of training volumes by size of the body."""
    holdout: Floats
    """[H, d, h, w]"""
    holdout_subject: Integers
    n_holdout: int
    in_training: Searches
    in_holdout: Searches
    left_out: Integers
    """[L] training volumes whose own neighbours were looked up."""
    of_training: Near
    """[L] in training volumes of other subjects."""
    of_training_held: Near
    """[L] in held-out volumes."""
    of_holdout: Near
    """[H] in training."""
    of_holdout_held: Near
    """[H] held-out volumes of other subjects."""
    of_generated: Near
    """[G] in training."""
    of_generated_held: Near
    """[G] nearest held-out volume."""
    generated: Integers
    """[G] positions of those searched for among all generated volumes."""
    training_volume: Integers
    """[M] positions of those searched in among all training volumes."""
    twice: int
    """Training and held-out volumes left out, as another subject has nearly the same."""
    across: int
    """Of these, held-out ones that are nearly the same as a training volume."""
    spacing: tuple[float, float, float]

    @property
    def typical(self) -> float:
        """Median distance of a held-out volume to the nearest training volume."""
        return float(np.median(self.of_holdout.plain.distance[:, 0]))

    def null(self, of: Callable[[Near], tuple[Floats, ...]]) -> tuple[Floats, ...]:
        """Isolation of the volumes that are no copies, held-out ones first, by each search."""
        pairs = zip(of(self.of_holdout), of(self.of_training), strict=True)
        return tuple(np.concatenate([held, trained]) for held, trained in pairs)


def searched(evidence: Evidence, options: Options) -> Searched:
    """Every search, after the checks.

    Raises:
        AuditError: as `memorization.judge`.
    """
    training, holdout, made = _checked(evidence)
    training, holdout, used, twice, across = _once(training, holdout)
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
    trained_fold, held_fold = _folds(training_subject, holdout_subject, options)
    maps = torch.cat([local_contrast(ours), local_contrast(behind)])
    spaces = ContrastSpace.without_each(maps, np.concatenate([trained_fold, held_fold]))
    in_training = Searches(ours, training_subject, spaces)
    in_holdout = Searches(behind, holdout_subject, spaces)
    null, null_fold = ours[left_out], trained_fold[left_out]
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
        behind,
        holdout_subject,
        len(held),
        in_training,
        in_holdout,
        left_out,
        in_training.search(null, groups=training_subject[left_out], folds=null_fold),
        in_holdout.search(null, min(NEIGHBOURS, len(behind)), folds=null_fold),
        in_training.search(behind, folds=held_fold),
        in_holdout.search(behind, min(_HELD_NEIGHBOURS, others), holdout_subject, held_fold),
        in_training.search(drawn),
        in_holdout.search(drawn, 1),
        np.flatnonzero(varies),
        used,
        twice,
        across,
        evidence.spacing,
    )


def _folds(
    training_subject: Integers, holdout_subject: Integers, options: Options
) -> tuple[Integers, Integers]:
    """[M], [H] the fold of each volume, the same for all of a subject's."""
    known, held = int(training_subject.max()) + 1, int(holdout_subject.max()) + 1
    drawn = options.rng("memorization/folds").permutation(known + held) % _FOLDS
    return drawn[training_subject], drawn[known + holdout_subject]


def _once(training: Cohort, holdout: Cohort) -> tuple[Cohort, Cohort, Integers, int, int]:
    """Both sides without volumes that another subject has, too.

    Returns:
        training, held-out; positions of the training volumes that stay; how many went, and how
        many held-out ones of them as they are in training.


    Raises:
        AuditError: too little is left.
    """
    side = np.repeat([False, True], [len(training), len(holdout)])
    subjects = np.concatenate([training.subjects, holdout.subjects])
    most = int(np.unique(subjects, return_counts=True)[1].max())
    if len(side) < LEAST or len(side) - most < NEIGHBOURS:
        return training, holdout, np.arange(len(training)), 0, 0
    twins = Twins.among(coarse(np.concatenate([training.values, holdout.values])), subjects)
    out = twins.second(side)
    across = int(np.count_nonzero(out & side & ~side[twins.partner]))
    kept = training.subset(~out[~side]), holdout.subset(~out[side])
    if not len(kept[0]) or not len(kept[1]):
        raise AuditError(
            f"memorization: {int(out.sum())} of {len(side)} volumes are nearly the same as one of "
            "another subject, and nothing is left to compare with; list every patient once"
        )
    return *kept, np.flatnonzero(~out[~side]), int(np.count_nonzero(out)), across


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
