"""These intervals hold for rates, exactly, and for anything else by drawing subjects again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from fastgan.arrays import Column, Integers
from fastgan.errors import AuditError

__all__ = ["bootstrap_interval", "clopper_pearson", "subject_bootstrap", "two_sample_interval"]


def clopper_pearson(
    found: int, runs: int, level: float = 0.95, side: Literal["two", "lower", "upper"] = "two"
) -> tuple[float, float]:
    """Exact interval of a probability of which `found` in `runs` independent runs were seen.

    Args:
        found: 0 <= found <= runs.
        runs: at least 1.
        level: confidence.
        side: "two" for an interval; "lower" or "upper" for one bound, the other end is 1 or 0.

    Raises:
        ValueError: counts that are not 0 <= found <= runs, runs >= 1; an unknown side.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the
    case of the binomial".

    >>> round(clopper_pearson(0, 299, side="upper")[1], 4)
    0.01
    """
    if not 0 <= found <= runs or runs < 1:
        raise ValueError(f"clopper_pearson: needs 0 <= found <= runs >= 1, got {found} of {runs}")
    if side not in ("two", "lower", "upper"):
        raise ValueError(f"clopper_pearson: side must be two, lower or upper, got {side!r}")
    tail = (1 - level) / (2 if side == "two" else 1)
    low = 0.0 if found == 0 or side == "upper" else 1 - _upper_bound(runs - found, runs, tail)
    high = 1.0 if found == runs or side == "lower" else _upper_bound(found, runs, tail)
    return low, high


def _upper_bound(found: int, runs: int, tail: float) -> float:
    """The probability at which `found` or fewer of `runs` are seen in a share `tail` of cases."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, runs + 1)))])
    k = np.arange(found + 1)
    log_choose = logs[runs] - logs[k] - logs[runs - k]
    low, high = 0.0, 1.0
    for _ in range(60):  # halvings: past the last bit of a float64
        p = (low + high) / 2
        if p in (low, high):
            break
        seen = np.exp(log_choose + k * np.log(p) + (runs - k) * np.log1p(-p)).sum()
        low, high = (p, high) if seen > tail else (low, p)
    return (low + high) / 2


def subject_bootstrap(subjects: Column, rng: np.random.Generator, draws: int) -> Iterator[Integers]:
    """Positions of the volumes of subjects drawn with replacement, as many subjects as there are.

    A subject brings all of its volumes, as often as it is drawn, so the arrays differ in length.
    """
    _, who, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    order = np.argsort(who, kind="stable")
    first = np.cumsum(counts) - counts
    for _ in range(draws):
        drawn = rng.integers(len(counts), size=len(counts))
        sizes = counts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield order[np.repeat(first[drawn], sizes) + within]


def bootstrap_interval(
    statistic: Callable[[Integers], float],
    subjects: Column,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Expanded percentile interval of a statistic of volumes, with the subject as unit.

    Plain percentiles of n subjects lie too near by a factor of sqrt((n - 1) / n) and by the normal
    distribution in place of Student's; they are moved outwards by both.

    At the end of its range (a share of 0, an area of 1) the interval has no width and says too
    little; a bound from `clopper_pearson` says more.

    Args:
        statistic: positions of volumes, some more than once -> value; NaN where it is undefined
            (a class that was not drawn), which leaves the draw out.
        subjects: [N] who each volume is of.
        rng: random numbers.
        draws: bootstrap samples.
        level: confidence.

    Raises:
        AuditError: fewer than two subjects, or undefined in more than one of ten draws.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.8;
        Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3.
    """
    drawn = subject_bootstrap(subjects, rng, draws)
    return _interval([statistic(d) for d in drawn], len(np.unique(subjects)), level)


def two_sample_interval(
    statistic: Callable[[Integers, Integers], float],
    subjects: tuple[Column, Column],
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """As `bootstrap_interval`, of a statistic of two samples whose subjects are drawn apart.

    Raises:
        AuditError: fewer than two subjects on a side, or undefined in more than one of ten draws.
    """
    ours, theirs = (subject_bootstrap(one, rng, draws) for one in subjects)
    values = [statistic(a, b) for a, b in zip(ours, theirs, strict=True)]
    return _interval(values, min(len(np.unique(one)) for one in subjects), level)


def _interval(drawn: Sequence[float], count: int, level: float) -> tuple[float, float]:
    """Expanded percentiles of a statistic's bootstrap draws, from `count` subjects."""
    if count < 2:
        raise AuditError(f"interval: needs at least 2 subjects, got {count}")
    values = np.array(drawn)
    values = values[~np.isnan(values)]
    if len(values) < 0.9 * len(drawn):
        raise AuditError(
            f"interval: undefined in {len(drawn) - len(values)} of {len(drawn)} samples of "
            f"{count} subjects"
        )
    upper = _expanded((1 + level) / 2, count)
    low, high = np.quantile(values, [1 - upper, upper])
    return float(low), float(high)


def _expanded(probability: float, count: int) -> float:
    """The percentile of `count` units that reaches as far as Student's t does at `probability`."""
    z, freedom = NormalDist().inv_cdf(probability), count - 1
    # Cornish and Fisher's expansion of Student's quantile: off by 0.6 % at 6 degrees of freedom.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(t * math.sqrt(count / freedom))
