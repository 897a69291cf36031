"""Which volumes take part in an exchange, so that patients of different counts can trade."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Column, Integers
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics.permutation import Exchange, Freedom
from fastgan.errors import AuditError

__all__ = ["Trading", "trading"]

KEPT = limit("exchange.kept")
"""Share of the moves of single volumes that whole patients must keep, or one volume is drawn."""
LEAST_TRADERS = whole("exchange.least_traders")
LEAST_LOG = math.log(limit("exchange.least_arrangements")) - 1e-9  # rounding of logarithms


@dataclass(frozen=True)
class Trading:
    """The volumes of a test, and how far its labels can move."""

    volumes: Integers
    """Positions that take part, in order."""
    one_each: bool
    """Whether one volume of each subject was drawn, because counts go with the labels."""
    freedom: Freedom

    def said(self, permutations: int) -> str:
        """For the methods of a finding."""
        free = self.freedom
        drawn = (
            "How many volumes a subject has goes with what is compared, so one volume of each is "
            "drawn at random. "
            if self.one_each
            else ""
        )
        return (
            f"{drawn}{free.traders} of {free.subjects} subjects can trade; the least p that can "
            f"come out is {free.least_p(permutations):.2g}."
        )

    @property
    def note(self) -> str:
        """For the sentence of a finding: what was left out, or ""."""
        return ", one volume of each drawn" if self.one_each else ""


def trading(
    labels: Column,
    subjects: Column,
    strata: Column | None,
    rng: np.random.Generator,
    what: str,
    within: str = "class",
) -> Trading:
    """Whole subjects where they can trade, one volume of each where their counts forbid it.

    Subjects trade whole patterns over their volumes with others of as many. Where counts go with
    the labels (one hospital sends follow-ups), hardly any label moves so. Then one volume of each
    subject is drawn, whatever its label or count: given those, a drawn volume is one more of the
    same law in every subject, and all of a stratum trade. Either exchange is exact where content
    depends on neither labels nor counts; which one is taken rests on labels and counts alone.

    Args:
        labels: [N] what is exchanged.
        subjects: [N] who each volume is of.
        strata: [N] labels move within; None for one stratum.
        rng: of the draw.
        what: the labels, in errors: "the site".
        within: the strata, in errors.

    Raises:
        AuditError: too few subjects can trade, or too few ways to do so.
    """
    everything = np.arange(len(labels))
    drawn = _one_each(subjects, rng)
    ways = [Trading(everything, False, _freedom(labels, subjects, strata, everything))]
    if len(drawn) < len(everything):
        ways.append(Trading(drawn, True, _freedom(labels, subjects, strata, drawn)))
    chosen = ways[0]
    if ways[0].freedom.moved < KEPT * ways[-1].freedom.moved:
        chosen = ways[-1]
    free = chosen.freedom
    if free.traders < LEAST_TRADERS or free.log_arrangements < LEAST_LOG:
        same = "" if strata is None else f" with others of the same {within}"
        raise AuditError(
            f"only {free.traders} of {free.subjects} subjects could trade {what}{same}, "
            f"{LEAST_TRADERS} are needed; add subjects that differ in {what}"
            + ("" if strata is None else f" and not in {within}")
        )
    return chosen


def _one_each(subjects: Column, rng: np.random.Generator) -> Integers:
    """Positions of one volume of each subject, drawn at random."""
    order = rng.permutation(len(subjects))
    _, first = np.unique(np.asarray(subjects)[order], return_index=True)
    out: Integers = np.sort(order[first])
    return out


def _freedom(labels: Column, subjects: Column, strata: Column | None, chosen: Integers) -> Freedom:
    try:
        exchange = Exchange(subjects[chosen], None if strata is None else strata[chosen])
    except AuditError:
        return Freedom(len(np.unique(subjects[chosen])), 0, 0.0, 0.0)
    return exchange.freedom(np.asarray(labels)[chosen])
