"""Does a transform leave labels alone? Flips counted by subject, and certified to be few.

A test that does not reject proves nothing, so the question is turned round: how large can the
share of flipped patients be at most? A classifier also wavers by itself near its boundary. Patients
whose class it changes after moving a volume by a part of a voxel and back, with faint noise, are
undecided: they are counted, and say nothing about the transform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.rules import limit
from fastgan.audit.statistics import clopper_pearson

__all__ = [
    "DELTA",
    "Effect",
    "Readings",
    "chance_to_refute",
    "effect",
    "refuting",
    "smallest_certifiable",
]

DELTA = limit("labels.augmentation.delta")
"""Largest share of flipped patients, and largest drift of a probability, that is tolerated."""
LEVEL = limit("audit.certified")


@dataclass(frozen=True)
class Readings:
    """What the classifier says of one volume per subject, before anything is done to it."""

    labels: Integers
    """[N] true classes."""
    probabilities: Floats
    """[N, K] of the volumes as they are."""
    wobbled: Floats
    """[J, N, K] after harmless changes."""

    @property
    def classes(self) -> int:
        """K."""
        return int(self.probabilities.shape[1])

    def subset(self, chosen: Integers) -> Readings:
        """Those of the chosen positions."""
        return Readings(self.labels[chosen], self.probabilities[chosen], self.wobbled[:, chosen])

    @property
    def decided(self) -> Bools:
        """[N] subjects whose class no harmless change alters."""
        said = self.probabilities.argmax(1)
        agrees: Bools = (self.wobbled.argmax(2) == said).all(0)
        return agrees


@dataclass(frozen=True)
class Effect:
    """What a transform does to the classifier's answers, by true class."""

    flipped: Integers
    """[K] decided subjects whose class changes."""
    decided: Integers
    """[K] subjects whose class no harmless change alters."""
    subjects: Integers
    """[K] subjects, undecided ones included."""
    raw: float
    """Share of all subjects, undecided ones included, whose class changes."""
    drift: Floats
    """[K] mean change of the probability of the true class, against harmless changes."""
    error: Floats
    """[K] its standard error."""
    moved: float
    """Mean absolute change of the probability of the true class, against harmless changes."""

    @property
    def rate(self) -> Floats:
        """[K] share of the decided subjects that flip; NaN without any."""
        with np.errstate(invalid="ignore", divide="ignore"):
            share: Floats = self.flipped / self.decided
        return share

    def upper(self) -> Floats:
        """[K] one-sided 95 % Clopper-Pearson bounds of the rates."""
        pairs = zip(self.flipped, self.decided, strict=True)
        return np.array([_bound(int(k), int(n), LEVEL, "upper") for k, n in pairs])

    def drift_reach(self) -> Floats:
        """[K] one-sided 95 % bounds of the size of the drift."""
        reach: Floats = np.abs(self.drift) + NormalDist().inv_cdf(LEVEL) * self.error
        return reach

    def certified(self) -> float:
        """The least delta this certifies, for flips and drift of every class.

        Every class has to pass its own test, so none needs a correction (intersection and union).
        """
        return float(max(self.upper().max(), self.drift_reach().max()))

    def refuted(self, tests: int = 1, delta: float = DELTA) -> bool:
        """Whether some class surely flips or drifts by more than delta, corrected for K x tests."""
        level = _corrected(len(self.drift), tests)
        flips = refuting(self.flipped, self.decided, level, delta)
        return bool(flips or _drifting(self.drift, self.error, level, delta).any())


def effect(readings: Readings, after: Floats) -> Effect:
    """Compare answers after a transform with those before.

    Args:
        readings: before.
        after: [N, K] probabilities after.
    """
    labels, decided = readings.labels, readings.decided
    everyone = np.arange(len(labels))
    flips = after.argmax(1) != readings.probabilities.argmax(1)
    change = after[everyone, labels] - readings.wobbled[:, everyone, labels].mean(0)
    groups = [labels == c for c in range(readings.classes)]
    return Effect(
        flipped=np.array([np.count_nonzero(flips & decided & g) for g in groups]),
        decided=np.array([np.count_nonzero(decided & g) for g in groups]),
        subjects=np.array([np.count_nonzero(g) for g in groups]),
        raw=float(flips.mean()),
        drift=np.array([change[g].mean() for g in groups]),
        error=np.array([change[g].std(ddof=1) / np.sqrt(np.count_nonzero(g)) for g in groups]),
        moved=float(np.abs(change).mean()),
    )


def refuting(
    flipped: Integers | list[int], decided: Integers | list[int], level: float, delta: float = DELTA
) -> bool:
    """Whether any class flips surely more often than delta."""
    pairs = zip(flipped, decided, strict=True)
    return any(_bound(int(k), int(n), level, "lower") > delta for k, n in pairs)


def smallest_certifiable(decided: Integers) -> float:
    """The upper bound that the smallest class has when nobody flips.

    >>> round(smallest_certifiable(np.array([299, 99])), 3)
    0.03
    """
    return _bound(0, int(np.min(decided)), LEVEL, "upper")


def chance_to_refute(
    found: Effect, rng: np.random.Generator, runs: int, *, share: float = 1.0, tests: int = 1
) -> int:
    """In how many of `runs` samples of as many subjects the transform is refuted (`refuted`).

    Flips are drawn from binomial distributions, mean drifts from normal ones.

    Args:
        found: what the transform did to the subjects that there are.
        rng: of the samples.
        runs: how many.
        share: of the subjects, to whom it is done; the others stay as they are.
        tests: transforms that are tested at once.
    """
    level = _corrected(len(found.drift), tests)
    rates = share * np.nan_to_num(found.rate)
    flips = np.stack([rng.binomial(n, r, runs) for n, r in zip(found.decided, rates, strict=True)])
    # A part of the subjects drifts: the mean of a mixture with those that stay.
    spread = share * (1 - share) * np.square(found.drift) / np.maximum(found.subjects, 1)
    error = np.sqrt(share * np.square(found.error) + spread)
    drift = share * found.drift + error * rng.standard_normal((runs, len(error)))
    drifting = _drifting(drift, error, level, DELTA)
    return sum(
        bool(drifting[run].any()) or refuting(flips[:, run], found.decided, level)
        for run in range(runs)
    )


def _corrected(classes: int, tests: int) -> float:
    """Level of one of the bounds of flips and drift in every class of every test (Bonferroni)."""
    return 1.0 - (1.0 - LEVEL) / (2 * classes * tests)


def _drifting(drift: Floats, error: Floats, level: float, delta: float) -> Bools:
    """Which drifts are surely larger than delta, in either direction."""
    surely: Bools = np.abs(drift) - NormalDist().inv_cdf(level) * error > delta
    return surely


@lru_cache(maxsize=4096)
def _bound(found: int, runs: int, level: float, side: str) -> float:
    """One Clopper-Pearson bound; of no runs it says nothing."""
    if runs == 0:
        return 1.0 if side == "upper" else 0.0
    if side == "upper":
        return clopper_pearson(found, runs, level, "upper")[1]
    return clopper_pearson(found, runs, level, "lower")[0]
