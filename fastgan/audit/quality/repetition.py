"""How many distinct volumes does the generated set hold?

Two volumes are twins if they lie closer than half the distance at which patients typically find
their nearest neighbour; and closer than all but a few pairs of patients, since where many patients
are much alike (small nodules beside a few large ones) the typical one says nothing of them. If D
different volumes are drawn equally often, a pair is one of twins in a share 1 / D, so
D = pairs / twins: the effective number of distinct volumes (inverse Simpson index).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.quality.patients import all_patients
from fastgan.audit.rules import limit
from fastgan.audit.statistics import bootstrap_interval
from fastgan.errors import AuditError
from fastgan.measures.descriptors import block_means

__all__ = ["REPETITION", "Distinct", "distinct", "judge_repetition"]

REPETITION = Question(
    "quality", "quality.repetition", "Does the generated set repeat the same few volumes?"
)
CLOSENESS = limit("quality.repetition.closeness")
RARE = limit("quality.repetition.rare")
ENOUGH = limit("quality.repetition.enough")
FEW = limit("quality.repetition.few")
BLOCKS = 8  # along an axis: a voxel's noise averages out, a shift by one voxel changes little
NOISE = 0.05  # of the planted repeats, in deviations of a voxel
DRAWS = 200


class Distinct(NamedTuple):
    """The effective number of distinct volumes."""

    value: float
    low: float
    high: float
    twins: int


def judge_repetition(evidence: Evidence, options: Options) -> Finding:
    """Finding quality.repetition.

    Raises:
        AuditError: patients of whom most are equal.
    """
    made, patients = evidence.require_generated(), all_patients(evidence, options.rng("repetition"))
    coarse, drawn = _coarse(patients.values), _coarse(made.values)
    distance, among = _distances(coarse), _distances(drawn)
    typical, trained = float(np.median(_nearest(distance))), evidence.training.n_subjects
    if typical <= 0.0:
        raise AuditError(
            "half of the patients have an equal among the others; see leakage.duplicates"
        )
    reach = _reach(distance, trained)
    if reach <= 0.0:
        raise AuditError("too many patients have an equal; see leakage.duplicates")
    rng = options.rng("quality/repetition")
    found = distinct(among < reach, rng)
    planted = () if options.quick else _controls(evidence, coarse, len(made), options)
    return Finding(
        *REPETITION,
        accepted=_outcome(found, len(made), trained),
        value=found.value,
        value_name="effective number of distinct generated volumes",
        interval=(found.low, found.high),
        floor=float(trained),
        floor_name="training patients",
        n_volumes=len(made) + len(patients),
        n_subjects=len(patients),
        power="; ".join(
            f"{c.name}: found in {c.rate:.0%}" for c in planted if c.expected != "quiet"
        ),
        controls=planted,
        tables=(_table(distance, among, reach, found, rng),),
        methods=(
            f"Means over {BLOCKS} blocks along each axis, Euclidean distance, one volume a "
            f"patient, training and held-out. Twins: pairs closer than {reach / typical:.2g} times "
            "the median distance of a patient to the nearest other, which is at most "
            f"{CLOSENESS:g} times, and closer than all but 1 in {RARE * trained:,.0f} pairs of "
            "patients. Distinct volumes: pairs over twins. Interval: the wider of a bootstrap of "
            "generated volumes and the bounds of a Poisson number of twins."
        ),
        limits=(
            "Repeats that are moved by several voxels, mirrored or changed in contrast are no "
            "twins here. Volumes that differ may still resemble each other: see variety."
        ),
    )


def distinct(twins: Bools, rng: np.random.Generator) -> Distinct:
    """The effective number of distinct ones of G volumes, from which are twins [G, G].

    >>> groups = np.arange(60) % 20
    >>> twins = groups[:, None] == groups
    >>> round(distinct(twins, np.random.default_rng(0)).value)
    30
    """
    count = len(twins)
    pairs = count * (count - 1) / 2
    same = np.array(twins, np.float64)
    np.fill_diagonal(same, 0.0)
    seen = int(same.sum() / 2)
    few, many = (pairs / c if c > 0.0 else math.inf for c in _poisson(seen)[::-1])

    def number(rows: Integers) -> float:
        w = np.bincount(rows, minlength=count).astype(np.float64)
        among = float(w @ same @ w)
        return (w.sum() ** 2 - (w**2).sum()) / among if among else math.inf

    low, high = few, many
    if seen:
        interval = bootstrap_interval(
            lambda rows: -1.0 / number(rows), np.arange(count), rng, draws=DRAWS
        )
        # Shares of twins, with the sign turned, so that an empty draw is an end and no gap.
        low = min(few, -1.0 / interval[0] if interval[0] else math.inf)
        high = max(many, -1.0 / interval[1] if interval[1] else math.inf)
    return Distinct(pairs / max(seen, 1), low, high, seen)


def _poisson(seen: int) -> tuple[float, float]:
    """95 % bounds of the expectation of a Poisson number, to 1 %.

    Source: Wilson and Hilferty 1931, "The distribution of chi-square".
    """
    z = NormalDist().inv_cdf(0.975)
    low = seen * (1 - 1 / (9 * seen) - z / (3 * math.sqrt(seen))) ** 3 if seen else 0.0
    more = seen + 1
    return low, more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3


def _outcome(found: Distinct, count: int, trained: int) -> Outcome:
    told = (
        f"its {count} volumes repeat each other as often as those of a set of about "
        f"{found.value:,.0f} distinct ones do [{found.low:,.0f}, {_up_to(found.high)}]"
    )
    if not found.twins:
        told = f"no two of its {count} volumes are twins, so at least {found.low:,.0f} are distinct"
    if found.high < FEW * trained:
        return Outcome(
            "fail",
            f"The generated set repeats a few volumes: {told}, fewer than the {trained} patients "
            "of the training set.",
        )
    if found.high < ENOUGH * trained:
        return Outcome("warn", f"The generated set repeats volumes: {told}.")
    if found.low >= ENOUGH * trained:
        return Outcome("pass", f"No evidence of repeated volumes found: {told}.")
    if count < _needed(trained):
        then = f"generate about {_needed(trained):,} volumes"
    else:
        then = "look at the twins: patients may be so much alike, or more volumes tell them apart"
    return Outcome(
        "cannot tell",
        f"Cannot tell whether the generated set repeats volumes: {told}, and {ENOUGH:g} times the "
        f"{trained} training patients are needed. Next: {then}.",
    )


def _needed(trained: int) -> int:
    """Volumes of which none may be a twin: their pairs over Poisson's bound of none must do."""
    return math.ceil(1.5 * math.sqrt(2 * _poisson(0)[1] * ENOUGH * trained) / 10) * 10


def _up_to(value: float) -> str:
    return "no end" if math.isinf(value) else f"{value:,.0f}"


def _reach(distance: Floats, trained: int) -> float:
    """Below this distance two volumes are twins, by the distances between patients [P, P]."""
    between = np.sort(distance[np.triu_indices(len(distance), 1)])
    alike = float(between[int(len(between) / (RARE * trained))])
    return min(CLOSENESS * float(np.median(_nearest(distance))), alike)


def _table(
    patients: Floats, drawn: Floats, reach: float, found: Distinct, rng: np.random.Generator
) -> Table:
    count, typical = min(len(patients), len(drawn)), float(np.median(_nearest(patients)))
    near = [
        np.median(_nearest(drawn[np.ix_(rows, rows)]))
        for rows in (rng.permutation(len(drawn))[:count] for _ in range(20))
    ]
    among = patients[np.triu_indices(len(patients), 1)]
    twins = int((among < reach).sum())
    rows = (
        ("nearest other, median (patients: 1)", 1.0, round(float(np.mean(near)) / typical, 3)),
        ("twins among pairs", f"{twins} of {len(among):,}", _share(drawn, found.twins)),
        ("distinct volumes", f"{len(among) / max(twins, 1):,.0f}", f"{found.value:,.0f}"),
    )
    return Table(
        "Repetition",
        ("figure", "patients", "generated"),
        rows,
        f"Nearest neighbours among {count} volumes of either kind.",
    )


def _share(distance: Floats, twins: int) -> str:
    return f"{twins} of {len(distance) * (len(distance) - 1) // 2:,}"


def _controls(
    evidence: Evidence, coarse: Floats, count: int, options: Options
) -> tuple[Control, Control]:
    """Half of the training patients, repeated with noise, pose as generated; and halves as such."""
    rng, trained = options.rng("quality/repeated"), evidence.training.n_subjects
    voxels = evidence.training.values[0].size / coarse.shape[1]
    noise = NOISE * float(evidence.training.values.std()) / math.sqrt(voxels)
    distance = _distances(coarse)
    near = _reach(distance, trained)
    hits, alarms, runs = 0, 0, min(options.planted, 100)
    for _ in range(runs):
        order = rng.permutation(len(coarse))
        some = coarse[order[: max(2, trained // 2)]]
        posing = some[rng.integers(len(some), size=count)]
        posing = posing + noise * rng.standard_normal(posing.shape)
        hits += distinct(_distances(posing) < near, rng).high < ENOUGH * trained
        first, second = (np.ix_(half, half) for half in np.array_split(order, 2))
        own = _reach(distance[first], trained)
        alarms += distinct(distance[second] < own, rng).high < ENOUGH * trained
    name = f"{max(2, trained // 2)} patients, repeated with noise to {count} volumes"
    return (
        controls.found(name, hits, runs),
        controls.quiet("patients, each once", alarms, runs, at_most=0.05),
    )


def _coarse(values: Floats) -> Floats:
    return block_means(np.asarray(values, np.float64), BLOCKS, rounded=True)


def _distances(rows: Floats) -> Floats:
    tensor = torch.from_numpy(rows)
    distance: Floats = torch.cdist(tensor, tensor).numpy()
    np.fill_diagonal(distance, np.inf)
    return distance


def _nearest(distance: Floats) -> Floats:
    nearest: Floats = distance.min(axis=1)
    return nearest
