"""Is any group of patients worse off with generated volumes: all groups bounded at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    standing: Standing = "cannot tell"
    needed: int | None = None


@dataclass(frozen=True)
class GroupTable:
    """What bootstrap draws of groups need, for one arm: see `judge_groups`."""

    groups: tuple[Group, ...]

    @property
    def worst(self) -> Group | None:
        """The group of the lowest AUC."""
        known = [g for g in self.groups if g.auc is not None]
        return min(known, key=lambda g: g.auc or 0.0) if known else None


@dataclass(frozen=True)
class _Cell:
    """A group before it is judged: [2, 1 + draws] areas of the arm and of real volumes alone."""

    column: str
    name: str
    positive: int
    negative: int
    areas: Floats

    @property
    def fewest(self) -> int:
        return min(self.positive, self.negative)

    @property
    def difference(self) -> Floats:
        gained: Floats = self.areas[0] - self.areas[1]
        return gained

    @property
    def drawn(self) -> Floats:
        """[draws] away from the difference as it is."""
        away: Floats = self.difference[1:] - self.difference[0]
        return away

    @cached_property
    def error(self) -> float:
        """Of the difference; drawing n patients again loses 1 / n of their variance."""
        return float(np.nanstd(self.drawn, ddof=1)) * math.sqrt(self.fewest / (self.fewest - 1))


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
    cells: list[_Cell] = []
    for column, groups in columns.items():
        for name in in_order(value for fold in groups for value in fold):
            inside = [np.array([value == name for value in fold], bool) for fold in groups]
            counts = [
                len(
                    {
                        o
                        for own, t, at in zip(owner, truth, inside, strict=True)
                        for o in own[at & (t == of)]
                    }
                )
                for of in (True, False)
            ]
            areas = _areas(kernels, truth, owner, inside, weights)
            cells.append(_Cell(column, name, counts[0], counts[1], areas))
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


def _bounded(cells: Sequence[_Cell], margin: float, level: float) -> tuple[Group, ...]:
    enough = [cell for cell in cells if cell.fewest >= LEAST]
    scaled = [
        np.nan_to_num(c.drawn / c.error) if c.error > 0.0 else np.zeros_like(c.drawn)
        for c in enough
    ]
    lower = upper = NormalDist().inv_cdf(1.0 - level)
    if scaled:
        # Of one group the normal quantile alone; of several what their largest reaches.
        lower = max(lower, float(np.quantile(np.max(scaled, axis=0), 1.0 - level)))
        upper = max(upper, float(np.quantile(np.max(np.negative(scaled), axis=0), 1.0 - level)))
    return tuple(_group(cell, lower, upper, margin) for cell in cells)


def _group(cell: _Cell, lower: float, upper: float, margin: float) -> Group:
    count = cell.positive + cell.negative
    known = [float(v) if np.isfinite(v) else None for v in cell.areas[:, 0]]
    bare = Group(cell.column, cell.name, cell.positive, cell.negative, known[0], known[1])
    if cell.fewest < LEAST:
        needed = math.ceil(LEAST * count / max(cell.fewest, 1))
        return replace(bare, needed=max(needed, 2 * LEAST))
    difference, freedom = float(cell.difference[0]), cell.fewest - 1
    down, up = (_student(quantile, freedom) * cell.error for quantile in (lower, upper))
    found = replace(bare, difference=difference, low=difference - down, high=difference + up)
    if difference + up < 0.0:
        return replace(found, standing="harmed")
    if difference - down > -margin:
        return replace(found, standing="not worse")
    # The bound would clear the margin if nothing were lost, with power 80 %.
    reach = down + NormalDist().inv_cdf(POWER) * cell.error
    return replace(found, needed=max(math.ceil((reach / margin) ** 2 * count), count + 1))


def _student(quantile: float, freedom: int) -> float:
    """Student's quantile of the probability that a normal one has at `quantile`."""
    return student_quantile(min(NormalDist().cdf(quantile), 1.0 - 1e-9), freedom)
