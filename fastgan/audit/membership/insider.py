"""Attacks by somebody who has the checkpoint: the critic's score, and inversion of the generator.

Source: critic's score: Hayes et al. 2019, "LOGAN"; inversion: Chen et al. 2020, "GAN-Leaks".
"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats
from fastgan.audit.evidence import Insider
from fastgan.audit.membership.distances import Reals
from fastgan.errors import AuditError

__all__ = ["ATTACKS", "CRITIC", "INVERSION", "insider_scores"]

ATTACKS = ("critic's score", "inversion of the generator")
CRITIC, INVERSION = range(2)


def insider_scores(held: Insider, reals: Reals) -> Floats:
    """[2, n] scores of the patients by `ATTACKS`; higher is more like a member.

    The distance that inversion leaves is held against that to the nearest other patient.

    Raises:
        AuditError: networks that ask for labels where there are none, or scores of NaN.
    """
    patients = reals.patients
    left = held.inverse(patients.values, patients.labels)
    over_nearest = 0.5 * reals.reference[0].numpy() - np.log(np.maximum(left, 1e-12))
    scores = np.stack([held.critic(patients.values, patients.labels), over_nearest])
    for name, one in zip(ATTACKS, scores, strict=True):
        if not np.isfinite(one).all():
            raise AuditError(f"{name}: {np.count_nonzero(~np.isfinite(one))} scores are not finite")
    return patients.mean(scores)
