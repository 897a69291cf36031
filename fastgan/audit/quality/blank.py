"""A generated volume is blank if every voxel is the same."""

from __future__ import annotations

import numpy as np

from fastgan.audit.evidence import Cohort
from fastgan.audit.judgement import Finding, Outcome, Table

__all__ = ["blank_volumes"]

_LISTED = 20


def blank_volumes(made: Cohort) -> Finding:
    """Whether any of the generated volumes has one value throughout; the first 20 are listed."""
    low, high = (f(made.values, axis=(1, 2, 3)) for f in (np.min, np.max))
    blank = np.flatnonzero(low == high)
    if len(blank):
        outcome = Outcome(
            "fail",
            f"{len(blank)} of {len(made)} generated volumes have one value throughout: they show "
            "nothing.",
        )
    else:
        outcome = Outcome(
            "pass", f"No evidence of blank volumes: all {len(made)} generated ones vary."
        )
    rows = tuple((int(i), float(low[i])) for i in blank[:_LISTED])
    title = f"Blank volumes, by position (the first {_LISTED})"
    return Finding(
        "quality",
        "quality.blank",
        "Is any generated volume blank?",
        outcome,
        value=float(len(blank)),
        value_name="volumes of one value",
        n_volumes=len(made),
        by_construction="every voxel is read",
        tables=(Table(title, ("volume", "value"), rows),) if rows else (),
        methods="Smallest and largest voxel of each volume, compared exactly.",
        limits="A volume with faint noise and nothing else is not blank.",
    )
