"""Is a kind of patient missing: a class, the largest, the smallest, the most typical of a class?

Along every axis patients are cut into fifths, and tenths at the ends; the share of generated
volumes in each is held against the patients' own. Where generated volumes have labels, patients
count as their classes are mixed there, since whoever generates may choose the mixture.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.quality.axes import Pair, axes_of
from fastgan.audit.rules import limit

__all__ = ["KINDS", "Stratum", "judge_kinds", "strata_of"]

KINDS = Question("quality", "quality.kinds", "Is a kind of patient missing among generated ones?")
MISSING = limit("quality.kinds.missing")
PRESENT = limit("quality.kinds.present")
CERTIFIED = limit("audit.certified")
ALPHA = limit("audit.alpha")
CUTS = ((0.0, 0.1), (0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0), (0.9, 1.0))
LEAST = 0.05  # share of patients below which ties have left no stratum
WHOLE = 0.15  # share from which a part holds patients enough to be acquitted
LEFT_OUT = 0.9  # share of the top fifth that the planted fault leaves out


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


def judge_kinds(evidence: Evidence, options: Options) -> Finding:
    """Finding quality.kinds."""
    made = evidence.require_generated()
    axes, labels = axes_of(evidence, options)
    asked = None if labels is None or made.labels is None else np.asarray(made.labels)
    weight = _weights(labels, asked, len(next(iter(axes.values()))[0]), evidence.classes)
    strata = [s for name, pair in axes.items() for s in strata_of(name, pair, weight)]
    worth, count = float(weight.sum() ** 2 / np.square(weight).sum()), len(made)
    ratio, low, _ = _ratios(strata, worth, count, 1 - CERTIFIED)
    high = _ratios(strata, worth, count, ALPHA / len(strata))[2]
    planted = () if options.quick else _controls(axes, weight, options)
    # Narrow parts may condemn; too few patients are in one to acquit it.
    low[[s.narrow for s in strata]] = np.inf
    least = int(low.argmin())
    return Finding(
        *KINDS,
        accepted=_outcome(evidence, asked, strata, (ratio, low, high)),
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
        tables=(_table(strata, ratio, low, high, count),),
        methods=(
            f"{len(axes)} axes: {', '.join(axes)}. Patients: training and held-out, one volume "
            "each, weighted to the mixture of classes that was generated. Ratio of shares in each "
            "part; one-sided bounds on the scale of the arcsine of the root. Missing: surely below "
            f"{MISSING:g} in a part, over all parts together; passes where every part that "
            f"holds {WHOLE:.0%} of the patients is above {PRESENT:.2g} at 95 %."
        ),
        limits=(
            "What none of these axes sees is not covered: a lesion that changes no brightness, a "
            "rare anatomy of ordinary size. Large lesions are seen as bright voxels, and as well "
            "as those tell them."
        ),
    )


def strata_of(name: str, pair: Pair, weight: Floats) -> list[Stratum]:
    """The parts of an axis, with patients weighted [P]; parts that ties left empty are left out."""
    patients, made = pair
    order = np.argsort(patients, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
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
            out.append(Stratum(name, _part(low, high), share, inside, narrow))
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


def _ratios(
    strata: list[Stratum], worth: float, count: int, tail: float
) -> tuple[Floats, Floats, Floats]:
    """Ratio of shares, generated over patients, with one-sided bounds, by stratum.

    The arcsine of the root of a share has nearly the same error whatever the share.
    Source: Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data".
    """
    share, made = (np.array([getattr(s, f) for s in strata], float) for f in ("patients", "made"))
    angle = np.arcsin(np.sqrt((made + 0.375) / (count + 0.75)))
    reach = NormalDist().inv_cdf(1 - tail) * 0.5 * math.sqrt(1 / count + 1 / worth)
    low = np.square(np.sin(np.maximum(angle - reach, 0.0))) / share
    high = np.square(np.sin(np.minimum(angle + reach, math.pi / 2))) / share
    return made / count / share, low, high


def _outcome(
    evidence: Evidence,
    asked: Integers | None,
    strata: list[Stratum],
    bounds: tuple[Floats, Floats, Floats],
) -> Outcome:
    ratio, low, high = bounds
    if asked is not None:
        counts = np.bincount(asked, minlength=len(evidence.classes))
        absent = [name for name, n in zip(evidence.classes, counts, strict=True) if not n]
        if absent:
            return Outcome(
                "fail",
                f"No generated volume is labelled {' or '.join(absent)}: a class is missing.",
            )
    at = int(high.argmin())
    if high[at] < MISSING:
        return Outcome(
            "warn",
            f"A kind of patient is missing or rare among generated volumes: {_told(strata[at])}, "
            f"{ratio[at]:.2g} times [up to {high[at]:.2g}] as many as among patients.",
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


def _told(stratum: Stratum) -> str:
    return f"{stratum.part} by {stratum.axis}"


def _table(strata: list[Stratum], ratio: Floats, low: Floats, high: Floats, count: int) -> Table:
    rows = tuple(
        (
            strata[i].axis,
            strata[i].part,
            f"{strata[i].patients:.0%}",
            f"{strata[i].made / count:.0%}",
            f"{ratio[i]:.2f}",
            "" if strata[i].narrow else f"{low[i]:.2f}",
            f"{high[i]:.2f}",
        )
        for i in np.argsort(ratio, kind="stable")[:20]
    )
    return Table(
        "Parts of the patients with the fewest generated volumes (the lowest 20)",
        ("axis", "part", "patients", "generated", "ratio", "at least (95 %)", "at most"),
        rows,
        "The upper bound is of all parts together.",
    )


def _controls(axes: dict[str, Pair], weight: Floats, options: Options) -> tuple[Control, Control]:
    """Patients pose as generated: as they are, and without most of a random axis's top fifth."""
    rng, runs = options.rng("quality/left out"), min(options.planted, 100)
    names = list(axes)
    count = len(axes[names[0]][1])
    hits, alarms = 0, 0
    for _ in range(runs):
        posing = rng.choice(len(weight), size=count, p=weight / weight.sum())
        chosen = axes[names[rng.integers(len(names))]][0]
        top = chosen[posing] > np.quantile(chosen, 0.8)
        kept = posing[~top | (rng.random(count) >= LEFT_OUT)]
        hits += _missing(axes, weight, kept)
        alarms += _missing(axes, weight, posing)
    name = f"{LEFT_OUT:.0%} of the highest fifth along an axis left out"
    return (
        controls.found(name, hits, runs),
        controls.quiet("patients as they are", alarms, runs, at_most=0.05),
    )


def _missing(axes: dict[str, Pair], weight: Floats, posing: Integers) -> bool:
    strata = [
        s for name, (ours, _) in axes.items() for s in strata_of(name, (ours, ours[posing]), weight)
    ]
    worth = float(weight.sum() ** 2 / np.square(weight).sum())
    high = _ratios(strata, worth, len(posing), ALPHA / len(strata))[2]
    return bool((high < MISSING).any())
