"""What would a missing kind of patient look like here? Some patients are left out, and sought."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control
from fastgan.audit.quality.depletion import Depletion, Ranked, ranks
from fastgan.audit.rules import limit

__all__ = ["planted_kinds"]

MISSING = limit("quality.kinds.missing")
SEEN = limit("quality.kinds.seen")
MEASURED = 1.0  # a mask's size and form, and what the owner measured, are the trait itself
LEFT_OUT = 0.2
MORE = (0.7, 0.9)  # further points of the power curve
RUNS = 100


def planted_kinds(
    ranked: Ranked,
    made: Bools,
    test: Depletion,
    axes: list[str],
    evidence: Evidence,
    options: Options,
) -> tuple[Control, ...]:
    """Patients drawn anew pose as generated: as they are, and without a fifth of them.

    The fifth is the highest or the lowest by what the owner measured. Without that, by a trait that
    goes with a random axis with a stated correlation: nobody knows the lesions' sizes in pictures;
    how well axes see them is a rule.

    Args:
        ranked: all volumes.
        made: [N] which of them are generated.
        test: of the generated ones, whose critical value is taken.
        axes: what the columns of `ranked` are called.
        evidence: the modality, and what was measured.
        options: seed and number of runs.
    """
    rng, runs = options.rng("quality/left out"), min(options.planted, RUNS)
    measured = evidence.modality == "mask" or evidence.traits
    every = range(len(axes))
    points: list[tuple[str, float, Sequence[int], bool]] = [
        (f"by {name}", MEASURED, (axes.index(name),), True) for name in evidence.traits
    ]
    if measured:
        points.append(("by an axis", MEASURED, every, True))
    else:
        points += [
            (f"by a trait of correlation {seen:g} with an axis", seen, every, seen == SEEN)
            for seen in (SEEN, *MORE)
        ]
    planted = []
    for by, seen, among, decisive in points:
        hits = sum(_found(ranked, made, test.critical, (seen, among), rng) for _ in range(runs))
        name = f"the highest or lowest {LEFT_OUT:.0%} left out, {by}"
        planted.append(controls.found(name, hits, runs, decisive=decisive))
    alarms = sum(_found(ranked, made, test.critical, None, rng) for _ in range(runs))
    planted.append(controls.quiet("patients as they are", alarms, runs, at_most=0.05))
    return tuple(planted)


def _found(
    ranked: Ranked,
    made: Bools,
    critical: float,
    planted: tuple[float, Sequence[int]] | None,
    rng: np.random.Generator,
) -> bool:
    """Whether fewer are seen somewhere, with patients drawn for both sides.

    A fifth is left out at one end of one of the axes, seen with a correlation.
    """
    seen, among = planted or (MEASURED, range(1))
    axis, end = int(rng.choice(among)), float(rng.choice([-1.0, 1.0]))
    rows: list[Integers] = []
    posing: list[Bools] = []
    for kind in ranked.kinds:
        patients = np.flatnonzero(~made & (ranked.strata == kind))
        count = int((made & (ranked.strata == kind)).sum())
        if not count or not len(patients):
            continue
        pool = rng.choice(patients, 2 * count + 10)
        if planted is not None:
            trait = end * _trait(ranked.values[patients, axis], seen, rng)
            of = dict(zip(patients.tolist(), trait.tolist(), strict=True))
            kept = np.array([of[i] for i in pool]) <= np.quantile(trait, 1 - LEFT_OUT)
            pool = pool[kept]
        drawn = np.resize(pool, count)
        rows += [rng.choice(patients, len(patients)), drawn]
        posing += [np.zeros(len(patients), bool), np.ones(count, bool)]
    at, posed = np.concatenate(rows), np.concatenate(posing)
    again = Ranked(ranked.values[at], ranked.strata[at], ranked.weights)
    found = again.statistics(posed[None])[0]
    return again.fewer(found, critical, posed, MISSING) is not None


def _trait(values: Floats, seen: float, rng: np.random.Generator) -> Floats:
    """[P] normal, with that correlation to the ranks of values [P]."""
    normal = NormalDist()
    rank = ranks(values[:, None])[:, 0].clip(1e-4, 1 - 1e-4)
    scores = np.array([normal.inv_cdf(float(r)) for r in rank])
    spread = float(scores.std()) or 1.0
    noise = rng.standard_normal(len(values))
    out: Floats = seen * scores / spread + np.sqrt(1 - seen**2) * noise
    return out
