"""Is any group of patients worse off with generated volumes: all groups bounded at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.utility.cohort import in_order
from fastgan.utility.corrected_t import student_quantile

__all__ = ["LEAST", "Group", "GroupTable", "judge_groups", "pairwise"]

LEAST = 10
"""Patients of either class, below which nothing is said of a group."""
DRAWS = 2000
POWER = 0.8
Standing = Literal["not worse", "harmed", "cannot tell"]


@dataclass(frozen=True)
class Group:
    """One group under one arm with generated volumes, against real volumes alone.

    Attributes:
        column, name: which patients.
        positive, negative: patients of either class.
        auc, auc_real: of the arm and of real volumes alone; None where a class is missing.
        difference: of the two.
        low, high: simultaneous bounds of the difference; None where nothing is said.
        standing: not worse than the margin, harmed, or cannot tell.
        needed: patients that would do, where it cannot be told.
    """

    column: str
    name: str
    positive: int
    negative: int
    auc: float | None
    auc_real: float | None
    difference: float | None
    low: float | None
    high: float | None
    standing: Standing
    needed: int | None


@dataclass(frozen=True)
class GroupTable:
    """What bootstrap draws of groups need, for one arm: see `judge_groups`."""

    groups: tuple[Group, ...]

    @property
    def worst(self) -> Group | None:
        """The group of the lowest AUC."""
        known = [g for g in self.groups if g.auc is not None]
        return min(known, key=lambda g: g.auc or 0.0) if known else None


def pairwise(logits: Floats, truth: Bools) -> Floats:
    """[P, Q] share of seeds in which positive p scores above negative q, ties half.

    Args:
        logits: [seeds, N].
        truth: [N].
    """
    positive, negative = logits[:, truth, None], logits[:, None, ~truth]
    kernel: Floats = ((positive > negative) + 0.5 * (positive == negative)).mean(axis=0)
    return kernel


def judge_groups(
    arm: Sequence[Floats],
    real: Sequence[Floats],
    truth: Sequence[Bools],
    subjects: Sequence[Texts],
    columns: dict[str, Sequence[Sequence[str]]],
    *,
    margin: float,
    level: float,
    rng: np.random.Generator,
) -> GroupTable:
    """Bound the loss of every group at once, patients drawn again.

    AUC of a group is taken within folds, whose scores alone are comparable, and summed by pairs.
    Bounds are the difference minus (plus) a multiple of its bootstrap error; the multiple is a
    quantile of the largest over all groups, widened as Student's t for the group's patients.

    Args:
        arm: for each fold [seeds, volumes tested] logits.
        real: likewise, of real volumes alone.
        truth: for each fold [volumes tested].
        subjects: likewise.
        columns: name -> for each fold [volumes tested] group.
        margin: loss of AUC that would be tolerated.
        level: of the one-sided bounds over all groups, such as 0.025.
        rng: of the draws.

    Source: max-T bootstrap as in Westfall and Young 1993, "Resampling-based multiple testing".
    """
    kernels = [(pairwise(a, t), pairwise(r, t)) for a, r, t in zip(arm, real, truth, strict=True)]
    names, who = np.unique(np.concatenate(list(subjects)), return_inverse=True)
    owner = np.split(who, np.cumsum([len(t) for t in truth])[:-1])
    drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), DRAWS)
    weights = np.concatenate([np.ones((1, len(names))), drawn])
    cells: list[tuple[str, str, int, int, Floats]] = []
    for column, groups in columns.items():
        for name in in_order(value for fold in groups for value in fold):
            inside = [np.array([value == name for value in fold], bool) for fold in groups]
            table = _areas(kernels, truth, owner, inside, weights)
            patients = [
                len(
                    {
                        o
                        for own, t, at in zip(owner, truth, inside, strict=True)
                        for o in own[at & t]
                    }
                ),
                len(
                    {
                        o
                        for own, t, at in zip(owner, truth, inside, strict=True)
                        for o in own[at & ~t]
                    }
                ),
            ]
            cells.append((column, name, patients[0], patients[1], table))
    return GroupTable(_bounded(cells, margin, level))


def _areas(
    kernels: Sequence[tuple[Floats, Floats]],
    truth: Sequence[Bools],
    owner: Sequence[Integers],
    inside: Sequence[Bools],
    weights: Floats,
) -> Floats:
    """[2, 1 + draws] AUC of a group under the arm and under real volumes, first as it is."""
    above, pairs = np.zeros((2, len(weights))), np.zeros(len(weights))
    for kernel, t, own, at in zip(kernels, truth, owner, inside, strict=True):
        rows, columns = at[t], at[~t]
        w_positive, w_negative = weights[:, own[t][rows]], weights[:, own[~t][columns]]
        pairs += w_positive.sum(1) * w_negative.sum(1)
        for k, one in enumerate(kernel):
            above[k] += ((w_positive @ one[np.ix_(rows, columns)]) * w_negative).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = above / pairs
    return out


def _bounded(
    cells: Sequence[tuple[str, str, int, int, Floats]], margin: float, level: float
) -> tuple[Group, ...]:
    told: dict[int, tuple[float, float, Floats]] = {}
    for place, (_, _, positive, negative, table) in enumerate(cells):
        if min(positive, negative) >= LEAST:
            difference = table[0] - table[1]
            drawn = difference[1:][np.isfinite(difference[1:])]
            error = float(drawn.std(ddof=1)) * math.sqrt(_lost(min(positive, negative)))
            centred = np.nan_to_num(difference[1:] - difference[0])
            told[place] = (float(difference[0]), error, centred)
    scaled = [c / e if e > 0.0 else np.zeros_like(c) for _, e, c in told.values()]
    normal = NormalDist()
    reach = normal.inv_cdf(1.0 - level)
    lower = upper = reach
    if scaled:
        # Of one group the quantile of Student's t alone; of several what their largest reaches.
        lower = max(reach, float(np.quantile(np.max(scaled, axis=0), 1.0 - level)))
        upper = max(reach, float(np.quantile(np.max(np.negative(scaled), axis=0), 1.0 - level)))
    found = []
    for place, (column, name, positive, negative, table) in enumerate(cells):
        known = [float(v) if np.isfinite(v) else None for v in table[:, 0]]
        if place not in told:
            count = positive + negative
            needed = math.ceil(LEAST * count / max(min(positive, negative), 1))
            found.append(
                Group(
                    column,
                    name,
                    positive,
                    negative,
                    known[0],
                    known[1],
                    None,
                    None,
                    None,
                    "cannot tell",
                    max(needed, 2 * LEAST),
                )
            )
            continue
        difference, error, _ = told[place]
        freedom = min(positive, negative) - 1
        down, up = (_student(q, freedom) * error for q in (lower, upper))
        low, high = difference - down, difference + up
        standing: Standing = "cannot tell"
        needed = 0
        if high < 0.0:
            standing = "harmed"
        elif low > -margin:
            standing = "not worse"
        else:
            # The bound would clear the margin if nothing were lost, with power 80 %.
            times = ((down + normal.inv_cdf(POWER) * error) / margin) ** 2
            needed = max(math.ceil(times * (positive + negative)), positive + negative + 1)
        found.append(
            Group(
                column,
                name,
                positive,
                negative,
                known[0],
                known[1],
                difference,
                low,
                high,
                standing,
                needed or None,
            )
        )
    return tuple(found)


def _lost(count: int) -> float:
    """As n / (n - 1), what drawing n patients again loses of their variance."""
    return count / (count - 1)


def _student(quantile: float, freedom: int) -> float:
    """Student's quantile of the probability that a normal one has at `quantile`."""
    return student_quantile(min(NormalDist().cdf(quantile), 1.0 - 1e-9), freedom)
