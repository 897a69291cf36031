"""Controls from the p-values of runs in which something was planted, or left alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.judgement import Control
from fastgan.audit.statistics import clopper_pearson, permutation_p
from fastgan.audit.statistics.group_tests import Groups, centred, standardised

__all__ = [
    "NEEDED",
    "TESTS",
    "by_subject",
    "found_control",
    "planted_p",
    "power_level",
    "quiet_control",
]

Floats = NDArray[np.floating]

TESTS = 20
"""Tests that one audit may hold: a planted fault must be found at alpha / TESTS, the first step of
Holm's correction, so that a stated power is that of the verdict and not of a test by itself."""
NEEDED = 0.8
"""Share of runs in which a planted fault must be found."""


def power_level(alpha: float) -> float:
    """Level at which planted faults must be found."""
    return alpha / TESTS


def found_control(
    name: str, p: Sequence[float] | Floats, alpha: float, *, decisive: bool = True
) -> Control:
    """A positive control: how often p-values of planted runs fall to `power_level(alpha)`."""
    runs = len(p)
    found = int(np.count_nonzero(np.asarray(p) <= power_level(alpha)))
    rate = found / runs
    return Control(
        name, "found", rate, clopper_pearson(found, runs), runs, rate >= NEEDED, decisive
    )


def quiet_control(name: str, p: Sequence[float] | Floats, alpha: float) -> Control:
    """A negative control: holds unless alarms at `alpha` are surely more frequent than `alpha`."""
    runs = len(p)
    found = int(np.count_nonzero(np.asarray(p) <= alpha))
    interval = clopper_pearson(found, runs)
    return Control(name, "quiet", found / runs, interval, runs, interval[0] <= alpha)


def planted_p(
    groups: Groups, planted: NDArray[np.bool_], maxima: Floats, permutations: int
) -> Floats:
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
        own = standardised(groups.contrast(group), centred(features, groups.strata))
        np.maximum(largest, np.abs(own), out=largest)
    for run in range(len(planted)):
        both = np.maximum(largest[:, run], maxima)
        out[run] = permutation_p(
            float(both[1 + permutations + run]), both[1 : 1 + permutations] * (1 + 1e-6)
        )
    return out


def by_subject(
    groups: Groups, first: int, agreement: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[R, N] membership of the last group in the rows from `first` on, wrong for a share of
    1 - agreement of the subjects: a mark or a field that mostly goes with the group.
    """
    member = groups.codes[first:] == len(groups.names) - 1
    wrong = rng.random((len(member), groups.subjects.max() + 1)) >= agreement
    out: NDArray[np.bool_] = member ^ wrong[:, groups.subjects]
    return out
