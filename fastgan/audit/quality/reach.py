"""Do generated volumes reach as many unseen patients as training patients do?

Coverage: the share of held-out patients with a generated volume nearer than their fifth neighbour
among themselves. Recall: the share that lies as near to some generated volume as that one's fifth
neighbour. Both are read for every held-out patient, at equal numbers, from generated volumes and
from training patients; the difference is one number a patient.
"""

from __future__ import annotations

import numpy as np
import torch

from fastgan.arrays import Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.quality.feature_distances import NEIGHBOURS
from fastgan.audit.quality.patients import one_each
from fastgan.audit.rules import limit
from fastgan.audit.statistics import bootstrap_interval

__all__ = ["COVERAGE", "judge_coverage"]

COVERAGE = Question(
    "quality", "quality.coverage", "Do generated volumes reach as many patients as patients do?"
)
TOLERATED = limit("quality.coverage.tolerated")
CERTIFIED = limit("quality.coverage.certified")
SETS = 20  # random sets of equal number that are averaged
DRAWS = 500
DIRECTIONS = 8
SIDE = 4  # parts of the patients along a direction, of which the planted set holds one
NAMES = ("coverage", "recall")


def judge_coverage(
    evidence: Evidence, options: Options, ours: Floats, held: Floats, drawn: Floats, about: str
) -> Finding:
    """Finding quality.coverage.

    Args:
        evidence: the volumes.
        options: the seed, and whether controls are left out.
        ours: [T, F] standardised features of training volumes.
        held: [H, F] of held-out ones.
        drawn: [G, F] of generated ones.
        about: what the features are.
    """
    rng = options.rng("quality/coverage")
    chosen = one_each(evidence.training.subjects, rng)
    training, held, drawn = _principal(ours[chosen], ours[chosen], held, drawn)
    patients = held[one_each(evidence.holdout.subjects, rng)]
    count = min(len(drawn), len(training) // 2)
    real, made = (_mean_reached(rows, patients, count, rng) for rows in (training, drawn))
    bounds = _bounds(made - real, rng)
    planted = () if options.quick else _controls(training, patients, count, options)
    least = int(bounds[0].argmin())
    return Finding(
        *COVERAGE,
        accepted=_outcome(real, made, bounds),
        value=float((made - real)[least].mean()),
        value_name=f"{NAMES[least]}, generated less training",
        interval=(float(bounds[0][least]), float(bounds[1][least])),
        floor=0.0,
        floor_name="as training patients reach them",
        n_volumes=len(drawn) + len(training) + len(patients),
        n_subjects=len(patients),
        power="; ".join(
            f"{c.name}: found in {c.rate:.0%}" for c in planted if c.expected != "quiet"
        ),
        controls=planted,
        tables=(_table(real, made, bounds),),
        methods=(
            f"{about} Their first {DIRECTIONS} principal directions. One volume a patient; the "
            f"mean of {SETS} random sets of {count} volumes on either side. Interval: held-out "
            "patients drawn with replacement. Warns where a "
            f"difference surely is below {-TOLERATED:g}, passes where it surely is above "
            f"{-CERTIFIED:g}."
        ),
        limits="What the features do not see, texture above all, is not covered.",
    )


def _principal(reference: Floats, *others: Floats) -> list[Floats]:
    """The others along the directions in which the reference varies most.

    Neighbours mean little where there are more directions than patients.
    """
    mean = reference.mean(axis=0)
    axes = np.linalg.svd(reference - mean, full_matrices=False)[2][:DIRECTIONS]
    return [(other - mean) @ axes.T for other in others]


def _reached(rows: Floats, patients: Floats) -> Floats:
    """[2, H] whether each patient is covered, and recalled, by rows."""
    a, b = torch.from_numpy(patients), torch.from_numpy(rows)
    between, within, among = (torch.cdist(*pair) for pair in ((a, b), (a, a), (b, b)))
    # The first neighbour of every vector is itself.
    reach_a = within.kthvalue(NEIGHBOURS + 1, dim=1).values[:, None]
    reach_b = among.kthvalue(NEIGHBOURS + 1, dim=1).values[None]
    found = torch.stack([(between <= reach_a).any(1), (between <= reach_b).any(1)])
    out: Floats = found.double().numpy()
    return out


def _mean_reached(rows: Floats, patients: Floats, count: int, rng: np.random.Generator) -> Floats:
    """[2, H] the same, as a share of random sets."""
    sets = (rng.permutation(len(rows))[:count] for _ in range(SETS))
    mean: Floats = np.mean([_reached(rows[chosen], patients) for chosen in sets], axis=0)
    return mean


def _bounds(difference: Floats, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """[2, 2] lower and upper ends of 95 % intervals of the mean differences [2, H]."""
    positions = np.arange(difference.shape[1])

    def interval(row: Floats) -> tuple[float, float]:
        def mean(chosen: Integers) -> float:
            return float(row[chosen].mean())

        return bootstrap_interval(mean, positions, rng, draws)

    return np.array([interval(row) for row in difference]).T


def _outcome(real: Floats, made: Floats, bounds: Floats) -> Outcome:
    low, high = bounds
    least = int(low.argmin())
    told = (
        f"{NAMES[least]} of held-out patients is {made[least].mean():.0%}, that of as many "
        f"training patients {real[least].mean():.0%}, a difference of "
        f"{100 * (made - real)[least].mean():+.0f} points [{100 * low[least]:+.0f}, "
        f"{100 * high[least]:+.0f}]"
    )
    if (high < -TOLERATED).any():
        return Outcome("warn", f"Generated volumes miss patients: {told}.")
    if low.min() > -CERTIFIED:
        return Outcome("pass", f"No evidence of missed patients found: {told}.")
    return Outcome(
        "cannot tell",
        f"Cannot tell whether generated volumes miss patients: {told}; the lower end has to lie "
        f"above {-100 * CERTIFIED:.0f}. Next: more held-out patients.",
    )


def _table(real: Floats, made: Floats, bounds: Floats) -> Table:
    rows = tuple(
        (
            name,
            f"{made[i].mean():.1%}",
            f"{real[i].mean():.1%}",
            f"{100 * (made - real)[i].mean():+.1f} [{100 * bounds[0, i]:+.1f}, "
            f"{100 * bounds[1, i]:+.1f}]",
        )
        for i, name in enumerate(NAMES)
    )
    columns = ("share of held-out patients", "generated", "training", "points [95 %]")
    return Table("Held-out patients that are reached", columns, rows)


def _controls(
    training: Floats, patients: Floats, count: int, options: Options
) -> tuple[Control, Control]:
    """Training patients of one end of a random direction pose as generated; and random ones."""
    rng, runs = options.rng("quality/one side"), min(options.planted, 40)
    hits, alarms = 0, 0
    for _ in range(runs):
        direction = training[rng.integers(len(training))] - training[rng.integers(len(training))]
        along = training @ direction
        size = max(min(count, len(training) // SIDE), NEIGHBOURS + 1)
        side = training[np.argsort(along)[:size]]
        first, second = np.array_split(rng.permutation(len(training)), 2)
        real = _mean_reached(training, patients, size, rng)
        missed = _mean_reached(side, patients, size, rng) - real
        hits += bool((_bounds(missed, rng, 100)[1] < -TOLERATED).any())
        even = _reached(training[second], patients) - _reached(training[first], patients)
        alarms += bool((_bounds(even, rng, 100)[1] < -TOLERATED).any())
    name = "training patients of one quarter of the feature space alone"
    return (
        controls.found(name, hits, runs),
        controls.quiet("training patients against training patients", alarms, runs, at_most=0.05),
    )
