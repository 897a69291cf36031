"""The patients of an attack: everybody whose membership is asked, with their volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import LEAST_SUBJECTS, Evidence
from fastgan.errors import AuditError

__all__ = ["MOST_VOLUMES", "Patients", "patients_of"]

MOST_VOLUMES = 2000
"""Real volumes that are attacked; of more patients, a random part, whichever side they are on."""


@dataclass(frozen=True)
class Patients:
    """Training and held-out patients; a patient's score is the mean over its volumes."""

    values: Floats
    """[N, D, H, W] in [-1, 1]."""
    labels: Integers | None
    """[N], or None where nothing is labelled."""
    owner: Integers
    """[N] number of the patient, 0 to n - 1."""
    member: Bools
    """[n] whether the patient was trained on."""

    @property
    def n(self) -> int:
        """How many patients."""
        return len(self.member)

    @property
    def n_members(self) -> int:
        """How many of them were trained on."""
        return int(self.member.sum())

    def mean(self, scores: Floats) -> Floats:
        """[..., n] of scores [..., N] of volumes."""
        flat = np.asarray(scores, np.float64).reshape(-1, len(self.owner))
        counts = np.bincount(self.owner, minlength=self.n)
        sums = np.stack([np.bincount(self.owner, row, self.n) for row in flat])
        return (sums / counts).reshape(*np.shape(scores)[:-1], self.n)


def patients_of(evidence: Evidence, rng: np.random.Generator) -> Patients:
    """Everybody, or of more than `MOST_VOLUMES` volumes a random part of the patients.

    Raises:
        AuditError: fewer than 10 patients on a side, or real volumes that are all the same.
    """
    sides = evidence.training, evidence.holdout
    counts = [side.n_subjects for side in sides]
    if min(counts) < LEAST_SUBJECTS:
        raise AuditError(
            f"needs at least {LEAST_SUBJECTS} patients on both sides of the split, got "
            f"{counts[0]} trained on and {counts[1]} held out"
        )
    names, owner = np.unique(np.concatenate([s.subjects for s in sides]), return_inverse=True)
    trained = np.isin(names, evidence.training.subjects)
    volumes = np.bincount(owner)
    order = rng.permutation(len(names))
    kept = np.zeros(len(names), bool)
    kept[order[np.cumsum(volumes[order]) <= max(MOST_VOLUMES, volumes.max())]] = True
    few = [int((kept & (trained == side)).sum()) for side in (True, False)]
    if min(few) < LEAST_SUBJECTS:
        raise AuditError(
            f"of {len(names)} patients a random {kept.sum()} can be attacked, and only {min(few)} "
            f"of one side are among them; {LEAST_SUBJECTS} are needed"
        )
    chosen = np.flatnonzero(kept[owner])
    place = np.cumsum(kept) - 1
    values = np.concatenate([s.values for s in sides])[chosen]
    if not np.ptp(values.reshape(len(values), -1), axis=0).any():
        raise AuditError(f"all {len(values)} training and held-out volumes are the same")
    known = [s.labels for s in sides]
    labels = None
    if known[0] is not None and known[1] is not None:
        labels = np.concatenate([known[0], known[1]])[chosen]
    return Patients(values, labels, place[owner[chosen]], trained[kept])
