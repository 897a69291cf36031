"""The statistics of the judgements: the subject is the unit, and no p-value is ever 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.statistics.pareto import ParetoTail
from fastgan.errors import AuditError

__all__ = [
    "Exchange",
    "area_under_curve",
    "auc",
    "auc_interval",
    "bootstrap_interval",
    "clopper_pearson",
    "holm",
    "pareto_tail_p",
    "permutation_p",
    "permuted",
    "subject_bootstrap",
    "two_sample_interval",
]

Floats = NDArray[np.floating]
Positions = NDArray[np.int64]
Column = NDArray[Any]


def permutation_p(observed: float, null: Sequence[float] | Floats) -> float:
    """p-value of a large `observed` among `null` values: (1 + b) / (1 + B), ties count against it.

    >>> permutation_p(3.0, [1.0, 2.0, 3.0])
    0.5
    """
    null = np.asarray(null, dtype=np.float64)
    return float((1 + np.count_nonzero(null >= observed)) / (1 + len(null)))


def holm(p: Sequence[float] | Floats) -> Floats:
    """Holm's adjusted p-values, in the order given; rejecting those <= alpha keeps the family-wise
    error at alpha under any dependence.

    Raises:
        ValueError: a value that is not in [0, 1].

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"holm: p-values must be in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out


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


class Exchange:
    """Which subjects may trade their labels: the permutations of a test with the subject as unit.

    A subject's labels move together, as one pattern over its volumes, to a subject with as many
    volumes in the same strata; its n-th volume of a stratum takes the label of the other's n-th. So
    subjects whose volumes differ in label or stratum are units like all others. The permutations
    are exact where, given the strata of their volumes, subjects' patterns of labels are
    exchangeable and independent of what is in the volumes. Nothing is assumed of volumes of one
    subject, and labels may depend on how many volumes a subject has.

    Args:
        subjects: [N] who each volume is of.
        strata: [N] labels move within strata only; None for one stratum.

    Raises:
        AuditError: no two subjects have as many volumes in the same strata: nothing can move.
        ValueError: columns of different lengths.

    >>> moves = Exchange(np.array(["a", "a", "b", "b", "c"]))
    >>> [group.tolist() for group in moves.groups]
    [[[0, 1], [2, 3]]]
    """

    def __init__(self, subjects: Column, strata: Column | None = None) -> None:
        who = np.unique(subjects, return_inverse=True)[1]
        where = np.zeros(len(who), np.int64)
        if strata is not None:
            where = np.unique(strata, return_inverse=True)[1].astype(np.int64)
        if len(who) != len(where):
            raise ValueError(f"Exchange: {len(who)} subjects but {len(where)} strata")
        order = np.lexsort((where, who))  # stable: volumes of one stratum keep their order
        first = np.flatnonzero(np.diff(who[order], prepend=-1))
        alike: dict[bytes, list[Positions]] = {}
        for positions in np.split(order, first[1:]):
            alike.setdefault(where[positions].tobytes(), []).append(positions)
        self.groups = [np.stack(group) for group in alike.values() if len(group) > 1]
        """[subjects, volumes of each] positions, per kind of subject that can trade."""
        if not self.groups:
            raise AuditError(
                f"permutation: no two of {len(first)} subjects have as many volumes in the same "
                "strata, so nothing can be exchanged"
            )

    def draw(self, labels: Column, rng: np.random.Generator) -> Column:
        """Labels [N] after one random permutation."""
        out = np.array(labels)
        for group in self.groups:
            out[group] = np.asarray(labels)[group[rng.permutation(len(group))]]
        return out


def permuted(
    labels: Column, subjects: Column, rng: np.random.Generator, strata: Column | None = None
) -> Column:
    """Labels [N] after one random permutation of subjects; see `Exchange`, which draws faster."""
    return Exchange(subjects, strata).draw(labels, rng)


def subject_bootstrap(
    subjects: Column, rng: np.random.Generator, draws: int
) -> Iterator[Positions]:
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
    statistic: Callable[[Positions], float],
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
    statistic: Callable[[Positions, Positions], float],
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


def area_under_curve(negative: Floats, positive: Floats) -> float:
    """Probability that a positive exceeds a negative, ties counted half (ROC AUC); NaN if either
    is empty.

    >>> area_under_curve(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875
    """
    if not len(negative) or not len(positive):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left").sum()
    upto = np.searchsorted(ordered, positive, side="right").sum()
    return float((below + upto) / 2 / (len(negative) * len(positive)))


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """ROC AUC of scores [N] for positives [N]; NaN where one of the two classes is missing.

    >>> auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    0.875
    """
    positive = np.asarray(positive, dtype=bool)
    return area_under_curve(np.asarray(scores)[~positive], np.asarray(scores)[positive])


def auc_interval(
    scores: Floats,
    positive: NDArray[np.bool_],
    subjects: Column,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """`bootstrap_interval` of `auc`."""
    scores, positive = np.asarray(scores), np.asarray(positive, dtype=bool)
    return bootstrap_interval(
        lambda drawn: auc(scores[drawn], positive[drawn]), subjects, rng, draws, level
    )


def pareto_tail_p(
    value: float,
    null: Sequence[float] | Floats,
    quantile: float = 0.95,
    least_shape: float = 0.1,
) -> float:
    """p-value of a large `value` whose null is known by a sample; see `ParetoTail`."""
    tail = ParetoTail.fit(np.asarray(null, dtype=np.float64), quantile, least_shape)
    return float(tail.p(np.array([value]))[0])
