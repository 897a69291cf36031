"""These p-values come from exchanging subjects, which are the unit; none is ever 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Column, Floats, Integers
from fastgan.errors import AuditError

__all__ = ["Exchange", "Freedom", "holm", "permutation_p"]


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


@dataclass(frozen=True)
class Freedom:
    """How far an exchange can move labels: where nothing moves, no p-value can be small."""

    subjects: int
    """Who take part."""
    traders: int
    """Of them, who may get another pattern of labels."""
    moved: float
    """Subjects that get another one in a permutation, on average."""
    log_arrangements: float
    """Natural logarithm of the number of different outcomes."""

    def least_p(self, permutations: int) -> float:
        """About the smallest p that can come out: the observed labels come up again by chance."""
        return max(1 / (1 + permutations), math.exp(-self.log_arrangements))


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
        alike: dict[bytes, list[Integers]] = {}
        for positions in np.split(order, first[1:]):
            alike.setdefault(where[positions].tobytes(), []).append(positions)
        self.groups = [np.stack(group) for group in alike.values() if len(group) > 1]
        """[subjects, volumes of each] positions, per kind of subject that can trade."""
        self.subjects = len(first)
        """How many there are."""
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

    def freedom(self, labels: Column) -> Freedom:
        """How far these labels [N] can move."""
        codes = np.unique(labels, return_inverse=True)[1]
        traders, moved, arrangements = 0, 0.0, 0.0
        for group in self.groups:
            counts = np.unique(codes[group], axis=0, return_counts=True)[1]
            if len(counts) > 1:
                size = int(counts.sum())
                traders += size
                moved += size - float(np.square(counts).sum()) / size
                arrangements += math.lgamma(size + 1) - sum(math.lgamma(n + 1) for n in counts)
        return Freedom(self.subjects, traders, moved, arrangements)
