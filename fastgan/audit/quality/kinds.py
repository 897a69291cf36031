"""Is a kind of patient missing: a class, the largest, the smallest, the most typical of a class?

Along every axis patients are cut into fifths, and tenths at the ends; the share of generated
volumes in each is held against the patients' own. Where generated volumes have labels, patients
count as their classes are mixed there, since whoever generates may choose the mixture, and volumes
are compared within their class.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.quality.axes import Pair, axes_of
from fastgan.audit.quality.depletion import CUTS, Cell, Depletion, Ranked
from fastgan.audit.quality.left_out import planted_kinds
from fastgan.audit.rules import limit

__all__ = ["KINDS", "Stratum", "judge_kinds", "strata_of"]

KINDS = Question("quality", "quality.kinds", "Is a kind of patient missing among generated ones?")
MISSING = limit("quality.kinds.missing")
PRESENT = limit("quality.kinds.present")
CERTIFIED = limit("audit.certified")
ALPHA = limit("audit.alpha")
NAMED = limit("quality.kinds.named")
LEAST = 0.05  # share of patients below which ties have left no stratum
WHOLE = 0.15  # share from which a part holds patients enough to be acquitted


class Stratum(NamedTuple):
    """Patients between two quantiles of an axis."""

    axis: str
    part: str
    patients: float
    """Share, at the mixture of classes that was generated."""
    made: int
    """Generated volumes among them."""
    narrow: bool
    """Whether it is a tenth, or a fifth that ties have left with less than `WHOLE`."""
    worth: float
    """As many patients of equal weight would say as much of the share."""
    total: int
    """Generated volumes in all parts together."""


def judge_kinds(evidence: Evidence, options: Options) -> Finding:
    """Finding quality.kinds."""
    made = evidence.require_generated()
    axes, labels = axes_of(evidence, options)
    asked = None if labels is None or made.labels is None else np.asarray(made.labels)
    weight = _weights(labels, asked, len(next(iter(axes.values()))[0]), evidence.classes)
    strata = [s for name, pair in axes.items() for s in strata_of(name, pair, weight)]
    for kind, called in enumerate(evidence.classes if asked is not None else ()):
        strata += _of_class(evidence, axes, kind, called, labels, asked)
    count = len(made)
    ratio, low, high = _ratios(strata, 1 - CERTIFIED)
    ranked, drawn = _ranked(axes, labels, asked, evidence.traits)
    test = Depletion.of(
        ranked,
        drawn,
        below=MISSING,
        alpha=ALPHA,
        permutations=options.permutations,
        rng=options.rng("quality/fewer"),
    )
    planted: tuple[Control, ...] = ()
    if not options.quick:
        planted = planted_kinds(ranked, drawn, test, list(axes), evidence, options)
    # Narrow parts may condemn; too few patients are in one to acquit it.
    low[[s.narrow for s in strata]] = np.inf
    least = int(low.argmin())
    return Finding(
        *KINDS,
        accepted=_outcome(evidence, asked, strata, (ratio, low), list(axes), test),
        value=float(ratio[least]),
        value_name=f"generated over patients in the {strata[least].part}, {strata[least].axis}",
        interval=(float(low[least]), float(high[least])),
        floor=1.0,
        floor_name="as among patients",
        n_volumes=count + len(weight),
        n_subjects=len(weight),
        power="; ".join(
            f"{c.name}: found in {c.rate:.0%}" for c in planted if c.expected != "quiet"
        ),
        controls=planted,
        tables=(_table(strata, ratio, low, high),),
        methods=(
            f"{len(axes)} axes: {', '.join(axes)}. Patients: training and held-out, one volume "
            "each, weighted to the mixture of classes that was generated. Test: volumes are ranked "
            "along each axis within their class; sums of ranks and numbers in fifths and the "
            "outer tenths, in each class and over all, are held against "
            f"{options.permutations} exchanges of volumes within classes (largest of all, p = "
            f"{test.p:.2g}). Missing: significantly fewer at {ALPHA:.0%} and, as counted, below "
            f"{MISSING:g} times the patients' share; passes where every part that holds "
            f"{WHOLE:.0%} of the patients is above {PRESENT:.2g} of it at 95 %, one-sided, on the "
            "scale of the arcsine of the root."
        ),
        limits=(
            "What none of these axes sees is not covered: a rare anatomy of ordinary size and "
            f"brightness. {_of_lesions(evidence)}"
        ),
    )


def _of_lesions(evidence: Evidence) -> str:
    """What is known of lesions' sizes."""
    if evidence.traits:
        return (
            f"The volumes' owner measured {', '.join(evidence.traits)}: of lesions no more is said "
            "than that, and as well as it was measured; no other trait was planted."
        )
    return (
        "How large a lesion is a picture tells only in part; the planted trait stands for it, "
        "which the axes see in part, too. Sizes that were measured (--measured) would tell."
    )


def _of_class(
    evidence: Evidence,
    axes: dict[str, Pair],
    kind: int,
    called: str,
    labels: Integers | None,
    asked: Integers | None,
) -> list[Stratum]:
    """Parts of a class along what was measured: pooled, a loss of the smaller class is diluted."""
    ours, theirs = labels == kind, asked == kind
    if not np.any(ours) or not np.any(theirs):
        return []
    out = []
    for name in evidence.traits:
        patients, made = axes[name]
        pair = (patients[ours], made[theirs])
        out += strata_of(f"{name} among {called}", pair, np.ones(len(pair[0])))
    return out


def _ranked(
    axes: dict[str, Pair],
    labels: Integers | None,
    asked: Integers | None,
    measured: tuple[str, ...],
) -> tuple[Ranked, Bools]:
    """All volumes, patients first, within classes; and which of them are generated."""
    values = np.stack([np.concatenate(pair) for pair in axes.values()], axis=1)
    made = np.arange(len(values)) >= len(next(iter(axes.values()))[0])
    weights = np.where([name in measured for name in axes], NAMED, 1.0)
    if labels is None or asked is None:
        return Ranked(values, np.zeros(len(values), np.int64), weights), made
    return Ranked(values, np.concatenate([labels, asked]), weights), made


def strata_of(name: str, pair: Pair, weight: Floats) -> list[Stratum]:
    """The parts of an axis, with patients weighted [P]; parts that ties left empty are left out."""
    patients, made = pair
    order = np.argsort(patients, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    worth = float(weight.sum() ** 2 / np.square(weight).sum())
    out = []
    for low, high in CUTS:
        below = _edge(patients[order], reached, low)
        above = _edge(patients[order], reached, high)
        share = float(weight[(patients > below) & (patients <= above)].sum() / weight.sum())
        if share >= LEAST:
            if high == 1.0:
                above = np.inf
            inside = int(((made > below) & (made <= above)).sum())
            narrow = min(high - low, share) < WHOLE
            out.append(Stratum(name, _part(low, high), share, inside, narrow, worth, len(made)))
    return out


def _edge(ordered: Floats, reached: Floats, quantile: float) -> float:
    if quantile == 0.0:
        return -np.inf
    return float(ordered[min(int(np.searchsorted(reached, quantile - 1e-9)), len(ordered) - 1)])


def _part(low: float, high: float) -> str:
    if low == 0.0:
        return f"lowest {high:.0%}"
    if high == 1.0:
        return f"highest {1 - low:.0%}"
    return f"{low:.0%} to {high:.0%}"


def _weights(
    labels: Integers | None, asked: Integers | None, count: int, classes: tuple[str, ...]
) -> Floats:
    """[P] 1, or what gives the patients the generated volumes' mixture of classes."""
    if labels is None or asked is None:
        return np.ones(count)
    ours = np.bincount(labels, minlength=len(classes))
    theirs = np.bincount(asked, minlength=len(classes))
    weight: Floats = (theirs / np.maximum(ours, 1))[labels].astype(np.float64)
    return weight


def _ratios(strata: list[Stratum], tail: float) -> tuple[Floats, Floats, Floats]:
    """Ratio of shares, generated over patients, with one-sided bounds, by stratum.

    The arcsine of the root of a share has nearly the same error whatever the share.
    Source: Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data".
    """
    share, made, worth, count = (
        np.array([getattr(s, name) for s in strata], np.float64)
        for name in ("patients", "made", "worth", "total")
    )
    angle = np.arcsin(np.sqrt((made + 0.375) / (count + 0.75)))
    reach = NormalDist().inv_cdf(1 - tail) * 0.5 * np.sqrt(1 / count + 1 / worth)
    low = np.square(np.sin(np.maximum(angle - reach, 0.0))) / share
    high = np.square(np.sin(np.minimum(angle + reach, math.pi / 2))) / share
    return made / count / share, low, high


def _outcome(
    evidence: Evidence,
    asked: Integers | None,
    strata: list[Stratum],
    bounds: tuple[Floats, Floats],
    axes: list[str],
    test: Depletion,
) -> Outcome:
    ratio, low = bounds
    named = () if asked is None else evidence.classes
    if asked is not None:
        counts = np.bincount(asked, minlength=len(evidence.classes))
        absent = [name for name, n in zip(evidence.classes, counts, strict=True) if not n]
        if absent:
            return Outcome(
                "fail",
                f"No generated volume is labelled {' or '.join(absent)}: a class is missing.",
            )
    if test.cell is not None:
        return Outcome(
            "warn",
            "A kind of patient is missing or rare among generated volumes: "
            f"{_of_cell(test.cell, axes, named)}, {test.cell.ratio:.2g} times as many as among "
            f"patients (p = {test.p:.2g} over all parts and axes).",
        )
    at = int(low.argmin())
    told = f"{ratio[at]:.2g} times [at least {low[at]:.2g}] as many as among patients"
    if low[at] > PRESENT:
        return Outcome(
            "pass",
            "No evidence of a missing kind of patient found along the axes measured: fewest in the "
            f"{_told(strata[at])}, {told}.",
        )
    return Outcome(
        "cannot tell",
        f"Cannot tell whether a kind of patient is missing: {_told(strata[at])}, {told}; "
        f"{PRESENT:.2g} at least would do. Next: more generated volumes, or more patients.",
    )


def _of_cell(cell: Cell, axes: list[str], classes: tuple[str, ...]) -> str:
    among = f" among {classes[cell.stratum]}" if classes and cell.stratum >= 0 else ""
    return f"{_part(*CUTS[cell.part])} by {axes[cell.axis]}{among}"


def _told(stratum: Stratum) -> str:
    return f"{stratum.part} by {stratum.axis}"


def _table(strata: list[Stratum], ratio: Floats, low: Floats, high: Floats) -> Table:
    rows = tuple(
        (
            strata[i].axis,
            strata[i].part,
            f"{strata[i].patients:.0%}",
            f"{strata[i].made / strata[i].total:.0%}",
            f"{ratio[i]:.2f}",
            "" if strata[i].narrow else f"{low[i]:.2f}",
            f"{high[i]:.2f}",
        )
        for i in np.argsort(ratio, kind="stable")[:20]
    )
    return Table(
        "Parts of the patients with the fewest generated volumes (the lowest 20)",
        ("axis", "part", "patients", "generated", "ratio", "at least (95 %)", "at most (95 %)"),
        rows,
        "Bounds are one-sided, of each part by itself.",
    )
