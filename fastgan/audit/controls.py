"""Planted controls are made here: something of known truth was put in, and found or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit.judgement import NEEDED, Control
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics import clopper_pearson, permutation_p
from fastgan.audit.statistics.group_tests import Groups, centred, standard_contrast

__all__ = ["NEEDED", "TESTS", "by_subject", "found", "hits", "planted_p", "power_level", "quiet"]

TESTS = whole("audit.tests")
"""Tests that one audit may hold: a planted fault must be found at alpha / TESTS, the first step of
Holm's correction, so that a stated power is that of the verdict and not of a test by itself."""
SURE = limit("controls.alarms_sure")
"""How sure it must be that alarms are too frequent before a control without a fault is broken."""

Measure = Literal["rate", "lower bound"]
"""What of the runs is held against a limit: their share, or a lower bound of it, which is the lower
end of the 95 % interval for a planted fault and one-sided at `SURE` for an alarm."""


def power_level(alpha: float) -> float:
    """Level at which planted faults must be found."""
    return alpha / TESTS


def hits(p: Sequence[float] | Floats, level: float) -> tuple[int, int]:
    """How many p-values of runs fall to a level, and of how many."""
    return int(np.count_nonzero(np.asarray(p) <= level)), len(p)


def found(
    name: str,
    hits: int,
    runs: int,
    *,
    at_least: float = NEEDED,
    by: Measure = "rate",
    decisive: bool = True,
) -> Control:
    """A positive control: it holds where what was planted is found in enough of the runs."""
    rate, interval = _rate(hits, runs)
    held = (rate if by == "rate" else interval[0]) >= at_least
    return Control(name, "found", rate, interval, runs, held, decisive)


def quiet(
    name: str,
    hits: int,
    runs: int,
    *,
    at_most: float,
    by: Measure = "lower bound",
    decisive: bool = True,
) -> Control:
    """A negative control: it holds unless alarms are surely more frequent than `at_most`.

    By the rate it holds where they are no more frequent in the runs themselves.
    """
    rate, interval = _rate(hits, runs)
    surely = clopper_pearson(hits, max(runs, 1), SURE, "lower")[0]
    held = (rate if by == "rate" else surely) <= at_most
    return Control(name, "quiet", rate, interval, runs, held, decisive)


def _rate(hits: int, runs: int) -> tuple[float, tuple[float, float]]:
    return hits / max(runs, 1), clopper_pearson(hits, max(runs, 1))


def planted_p(groups: Groups, planted: Bools, maxima: Floats, permutations: int) -> Floats:
    """p-values [R] of runs in which one feature is added to a family that was tested.

    Args:
        groups: row 0 as observed, then `permutations` rows of the null, then R rows of which each
            is the truth of one run.
        planted: [R, N] the feature of each run.
        maxima: [1 + permutations + R] largest |t| of the family, by row.
        permutations: rows of the null.
    """
    out = np.empty(len(planted))
    largest = np.zeros((len(groups.codes), len(planted)))
    features = planted.T.astype(np.float32)
    for group in groups.contrasts:
        own = standard_contrast(groups.contrast(group), centred(features, groups.strata))
        np.maximum(largest, np.abs(own), out=largest)
    for run in range(len(planted)):
        both = np.maximum(largest[:, run], maxima)
        out[run] = permutation_p(
            float(both[1 + permutations + run]), both[1 : 1 + permutations] * (1 + 1e-6)
        )
    return out


def by_subject(groups: Groups, first: int, agreement: float, rng: np.random.Generator) -> Bools:
    """[R, N] membership of the last group in the rows from `first` on, wrong for a share of
    1 - agreement of the subjects: a mark or a field that mostly goes with the group.
    """
    member = groups.codes[first:] == len(groups.names) - 1
    wrong = rng.random((len(member), groups.subjects.max() + 1)) >= agreement
    out: Bools = member ^ wrong[:, groups.subjects]
    return out
