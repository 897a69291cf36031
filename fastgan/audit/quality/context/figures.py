"""Distances between sets and how one covers the other, at equal numbers of patients throughout.

All but the kernel distance move with the number of volumes. So a set of M volumes stands beside
sets of M patients, drawn at random, one volume each: what a perfect generator would show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit.judgement import Table
from fastgan.audit.quality.context.likelihood import surprise
from fastgan.audit.quality.feature_distances import coverage, frechet_distance
from fastgan.audit.quality.patients import one_each
from fastgan.errors import AuditError

__all__ = [
    "DRAWS",
    "Known",
    "Measured",
    "Trial",
    "figures_table",
    "in_turn",
    "measured",
]

DRAWS = 20  # random sets of equal number that are averaged
HALVES = 40  # random halves, from whose spread an interval follows
WITHIN = 1.96  # deviations of a normal distribution that hold 95 %
SHARES = ("precision", "recall", "coverage")
NAMES = {
    "frechet": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "likelihood": "likelihood divergence",
}

Figures = Mapping[str, float]
Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Trial:
    """Features of what poses as generated, and of the patients that it is held against."""

    made: Floats
    """[M, F]"""
    known: Floats
    """[T - M, F] training patients, one volume each; they alone set widths of `surprise`."""
    unseen: Floats
    """[H, F] other patients, one volume each."""

    def figures(self) -> dict[str, float]:
        """Every measure but the kernel distance; likelihood is not yet less that of patients.

        Raises:
            AuditError: 5 volumes or fewer on a side, features that do not vary or are not finite.
        """
        found = coverage(self.unseen, self.made)
        return {
            "frechet": frechet_distance(self.made, self.unseen),
            **{name: getattr(found, name) for name in (*SHARES, "density")},
            "likelihood": float(surprise(self.made, self.known, self.unseen).mean()),
        }

    def half(self, rng: np.random.Generator) -> Trial:
        """Half of each set, drawn without replacement."""
        sets = (self.made, self.known, self.unseen)
        return Trial(*(rows[rng.permutation(len(rows))[: len(rows) // 2]] for rows in sets))


@dataclass(frozen=True)
class Known:
    """Features [N, F] of patients and who each is of [N]."""

    features: Floats
    subjects: Texts

    def drawn(self, rng: np.random.Generator) -> Floats:
        """One volume of each patient, in random order."""
        chosen = one_each(self.subjects, rng)
        rows: Floats = self.features[rng.permutation(chosen)]
        return rows


def in_turn(order: Integers, subjects: Texts) -> Integers:
    """Of positions in an order [N], the first of every subject, in that order.

    >>> in_turn(np.array([3, 0, 2, 1]), np.array(["a", "b", "b", "a"])).tolist()
    [3, 2]
    """
    first = np.unique(subjects[order], return_index=True)[1]
    kept: Integers = order[np.sort(first)]
    return kept


@dataclass(frozen=True)
class Measured:
    """The measures of generated volumes, their standard errors, and those of patients."""

    values: Figures
    errors: Figures
    patients: Mapping[str, Floats]

    def row(self, name: str) -> Row:
        """A line of the table, within the range that the measure has."""
        value, patients = self.values[name], self.patients[name]
        if name == "likelihood":  # 0 for patients, by definition
            value, patients = (
                value - float(patients.mean()),
                np.round(patients - patients.mean(), 9),
            )
        least = -math.inf if name == "likelihood" else 0.0
        most = 1.0 if name in SHARES else math.inf
        reach = WITHIN * self.errors[name]
        return _row(
            NAMES[name], value, (max(value - reach, least), min(value + reach, most)), patients
        )


def measured(
    patients: tuple[Known, Known],
    drawn: Floats,
    trials: Sequence[Trial],
    count: int,
    rng: np.random.Generator,
) -> Measured | str:
    """Every measure but the kernel distance, or why there is none: no verdict waits for them.

    Those of generated volumes are means over random sets. A standard error is the deviation over
    random halves of all three sets (delete-half jackknife); where more volumes were generated than
    `count`, it is too large rather than too small.

    Args:
        patients: standardised features and subjects of training volumes, and of held-out ones.
        drawn: [G, F] of generated volumes.
        trials: patients who pose as generated.
        count: how many volumes are held against patients at once.
        rng: random numbers.

    Cost: 60 times `Trial.figures` and as often as there are trials.

    Source: Shao and Wu 1989, "A general theory for jackknife variance estimation".
    """
    training, holdout = patients

    def trial() -> Trial:
        rows = drawn[rng.permutation(len(drawn))[:count]]
        return Trial(rows, training.drawn(rng)[count:], holdout.drawn(rng))

    try:
        whole = _columns([trial().figures() for _ in range(DRAWS)])
        halves = _columns([trial().half(rng).figures() for _ in range(HALVES)])
        dealt = _columns([one.figures() for one in trials])
    except AuditError as error:
        return str(error)
    return Measured(
        {name: float(values.mean()) for name, values in whole.items()},
        {name: float(values.std(ddof=1)) for name, values in halves.items()},
        dealt,
    )


def _columns(found: Sequence[Figures]) -> dict[str, Floats]:
    return {name: np.array([one[name] for one in found]) for name in NAMES}


def figures_table(
    kernel: tuple[float, tuple[float, float], Floats], found: Measured | str, count: int
) -> Table:
    """Every measure of the generated set, with its interval, beside that of patients.

    Args:
        kernel: the kernel distance, its interval, and [R] that of patients.
        found: the others, or why there are none.
        count: how many volumes posed.
    """
    rows = [_row("kernel distance", *kernel)]
    if isinstance(found, str):
        rows += [(name, f"not available: {found}", "", "") for name in NAMES.values()]
    else:
        rows += [found.row(name) for name in NAMES]
    return Table(
        "Generated to held-out, beside patients to patients",
        ("measure", "generated", "95 % interval", "patients [95 % of deals]"),
        tuple(rows),
        "Context: no verdict turns on any but the first. Kernel distance: KID. Frechet distance: "
        "FID's formula. Precision: generated volumes near patients. Recall: patients near "
        "generated volumes. Density and coverage: the same, less moved by outliers. Likelihood "
        "divergence: FLD, how much less likely held-out patients are than if further patients "
        "were in the generated volumes' place. All but the first depend on the number of volumes, "
        f"here {count} on either side, and all on the features: figures of other reports are no "
        "yardstick.",
    )


def _row(name: str, value: float, ends: tuple[float, float], patients: Floats) -> Row:
    low, high = np.quantile(patients, [0.025, 0.975])
    mean = round(float(patients.mean()), 9) + 0.0  # not 1e-14, nor -0, in place of 0
    return (
        name,
        f"{value:.3g}",
        f"[{ends[0]:.3g}, {ends[1]:.3g}]",
        f"{mean:.3g} [{low:.3g}, {high:.3g}]",
    )
