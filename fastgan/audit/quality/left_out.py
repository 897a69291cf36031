"""What would a missing kind of patient look like here? Some patients are left out, and sought."""

from __future__ import annotations

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
MEASURED = 1.0  # a mask's size and form are the trait itself
LEFT_OUT = 0.2
MORE = (0.7, 0.9)  # further points of the power curve
RUNS = 100


def planted_kinds(
    ranked: Ranked, made: Bools, test: Depletion, evidence: Evidence, options: Options
) -> tuple[Control, ...]:
    """Patients drawn anew pose as generated: as they are, and without a fifth of them.

    The fifth is the highest or the lowest by a trait that goes with a random axis with a stated
    correlation. Nobody knows the lesions' sizes in pictures; how well axes see them is a rule.

    Args:
        ranked: all volumes.
        made: [N] which of them are generated.
        test: of the generated ones, whose critical value is taken.
        evidence: the modality.
        options: seed and number of runs.
    """
    rng, runs = options.rng("quality/left out"), min(options.planted, RUNS)
    masks = evidence.modality == "mask"
    points = (MEASURED,) if masks else (SEEN, *MORE)
    planted = []
    for seen in points:
        hits = sum(_found(ranked, made, test.critical, seen, rng) for _ in range(runs))
        by = "" if seen == 1.0 else f"a trait of correlation {seen:g} with "
        name = f"the highest or lowest {LEFT_OUT:.0%} left out, by {by}an axis"
        planted.append(controls.found(name, hits, runs, decisive=seen == points[0]))
    alarms = sum(_found(ranked, made, test.critical, None, rng) for _ in range(runs))
    planted.append(controls.quiet("patients as they are", alarms, runs, at_most=0.05))
    return tuple(planted)


def _found(
    ranked: Ranked, made: Bools, critical: float, seen: float | None, rng: np.random.Generator
) -> bool:
    """Whether fewer are seen somewhere, with patients drawn for both sides."""
    axis, end = int(rng.integers(ranked.values.shape[1])), float(rng.choice([-1.0, 1.0]))
    rows: list[Integers] = []
    posing: list[Bools] = []
    for kind in ranked.kinds:
        patients = np.flatnonzero(~made & (ranked.strata == kind))
        count = int((made & (ranked.strata == kind)).sum())
        if not count or not len(patients):
            continue
        pool = rng.choice(patients, 2 * count + 10)
        if seen is not None:
            trait = end * _trait(ranked.values[patients, axis], seen, rng)
            of = dict(zip(patients.tolist(), trait.tolist(), strict=True))
            kept = np.array([of[i] for i in pool]) <= np.quantile(trait, 1 - LEFT_OUT)
            pool = pool[kept]
        drawn = np.resize(pool, count)
        rows += [rng.choice(patients, len(patients)), drawn]
        posing += [np.zeros(len(patients), bool), np.ones(count, bool)]
    at, posed = np.concatenate(rows), np.concatenate(posing)
    again = Ranked(ranked.values[at], ranked.strata[at])
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
