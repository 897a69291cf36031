"""Is the generated set as varied as patients?"""

from __future__ import annotations

import numpy as np
import torch

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Outcome
from fastgan.audit.quality.context.similarity import similarity_table
from fastgan.audit.quality.patients import all_patients
from fastgan.audit.rules import limit
from fastgan.audit.statistics import two_sample_interval

__all__ = ["LEAST_DIVERSITY", "judge_diversity"]

LEAST_DIVERSITY = limit("quality.diversity.least")
"""Mean distance within generated volumes over that within held-out ones, from which it passes."""

_DRAWS = 250


def judge_diversity(
    evidence: Evidence, options: Options, held: Floats, drawn: Floats, about: str
) -> Finding:
    """Mean distance within generated volumes over that within held-out ones.

    Args:
        evidence: the volumes.
        options: the seed.
        held: [H, F] standardised features of held-out volumes.
        drawn: [G, F] of generated ones.
        about: what the features are.

    Raises:
        AuditError: fewer than two subjects on a side.
    """
    holdout, made = evidence.holdout, evidence.require_generated()
    ours, theirs = _Within(drawn), _Within(held)
    ratio = ours(np.arange(len(drawn))) / theirs(np.arange(len(held)))
    low, high = two_sample_interval(
        lambda a, b: ours(a) / theirs(b),
        (made.subjects, holdout.subjects),
        options.rng("quality/diversity"),
        _DRAWS,
    )
    compared = (
        f"generated volumes lie {ratio:.3g} times [{low:.3g}, {high:.3g}] as far apart as "
        "held-out ones"
    )
    if high < LEAST_DIVERSITY:
        outcome = Outcome("warn", f"The generated set is less varied than patients: {compared}.")
    elif low >= LEAST_DIVERSITY:
        outcome = Outcome("pass", f"No evidence of a lack of variety found: {compared}.")
    else:
        outcome = Outcome(
            "cannot tell",
            f"Cannot tell: {compared}, and the lower end has to reach {LEAST_DIVERSITY:g}.",
        )
    rng = options.rng("quality/similarity")
    patients = all_patients(evidence, rng)
    return Finding(
        "quality",
        "quality.diversity",
        "Is the generated set as varied as patients?",
        accepted=outcome,
        value=ratio,
        value_name="mean distance within generated over that within held-out volumes",
        interval=(low, high),
        floor=1.0,
        floor_name="as varied as patients",
        n_volumes=len(made) + len(holdout),
        n_subjects=holdout.n_subjects,
        by_construction=f"the interval rules out a ratio below {low:.3g}",
        tables=(similarity_table(made, patients, evidence.classes, rng),),
        methods=f"{about} Euclidean distances; bootstrap over the subjects of both sets.",
        limits="A set may be varied and yet miss rare patients: see recall and coverage.",
    )


class _Within:
    """Mean distance between different ones of drawn rows, from distances computed once."""

    def __init__(self, rows: Floats) -> None:
        tensor = torch.from_numpy(np.asarray(rows, np.float64))
        self.distance = torch.cdist(tensor, tensor).numpy()
        np.fill_diagonal(self.distance, 0.0)

    def __call__(self, drawn: Integers) -> float:
        w = np.bincount(drawn, minlength=len(self.distance)).astype(np.float64)
        # A volume drawn twice makes no pair with itself.
        return float(w @ self.distance @ w / (w.sum() ** 2 - (w**2).sum()))
