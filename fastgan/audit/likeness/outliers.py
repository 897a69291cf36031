"""Is a volume nearer to one training volume than by chance? This is the test for single copies.

r = d1 / mean(d2, ..., d10) compares the distance to the nearest training volume with those to the
next ones, so it does not depend on how dense the data are where the volume lies. Volumes that are
no copies, held-out ones and training volumes against all other subjects, say how r falls by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.rules import whole
from fastgan.audit.statistics.pareto import ParetoTail
from fastgan.errors import AuditError

__all__ = ["LEAST_NULL", "CopyTest", "isolation", "ratio"]

LEAST_NULL = whole("memorization.copies.least_null")
"""Volumes that are no copies, held-out and training ones together."""

# r of an exact copy is 0; its logarithm is not.
_LEAST_RATIO = 1e-6
# The shape of a tail of 50 values varies so much that near-copies are lost in every tenth split.
_EXCESSES = 100


def ratio(distance: Floats) -> Floats:
    """The ratio r of ascending distances [N, k]: d1 / mean(d2, ..., dk); 1 where all k are 0.

    >>> ratio(np.array([[1.0, 2.0, 2.0]])).tolist()
    [0.5]
    """
    others = distance[:, 1:].mean(axis=1)
    r: Floats = np.where(others > 0, distance[:, 0] / np.where(others > 0, others, 1.0), 1.0)
    return r


def isolation(distance: Floats) -> Floats:
    """-log r of ascending distances [N, k]: the larger, the more a copy."""
    u: Floats = -np.log(np.maximum(ratio(distance), _LEAST_RATIO))
    return u


@dataclass(frozen=True)
class CopyTest:
    """p-values of volumes by one or more searches, each with a null of its own.

    Every search that is run for a volume is run for the null: looking in more poses finds nearer
    neighbours for those that are no copies, too.
    """

    tails: tuple[ParetoTail, ...]

    @staticmethod
    def fit(null: Sequence[Floats], least: int = LEAST_NULL) -> CopyTest:
        """The test from the isolation [N] of volumes that are no copies, by each search.

        Args:
            null: [N] by each search.
            least: values that are needed; a control that sets some aside asks for fewer.

        Raises:
            AuditError: a null that is too small or has no spread.
        """
        count = min(len(u) for u in null)
        if count < least:
            raise AuditError(
                f"needs at least {least} training and held-out volumes together to know "
                f"chance, got {count}"
            )
        return CopyTest(tuple(ParetoTail.fit(u, _quantile(len(u))) for u in null))

    def p(self, isolation: Sequence[Floats]) -> Floats:
        """p-values [N] of single volumes, from their isolation [N] by each search.

        The smallest over the searches, times their number (Bonferroni).
        """
        each = [tail.p(u) for tail, u in zip(self.tails, isolation, strict=True)]
        p: Floats = np.minimum(len(each) * np.min(each, axis=0), 1.0)
        return p

    def search_of(self, isolation: Sequence[Floats]) -> Integers:
        """[N] the search by which each volume is the most suspicious."""
        each = [tail.p(u) for tail, u in zip(self.tails, isolation, strict=True)]
        which: Integers = np.argmin(each, axis=0)
        return which

    def p_any(self, isolation: Sequence[Floats]) -> float:
        """p-value of the set: that none of N volumes is a copy (Bonferroni over the volumes)."""
        p = self.p(isolation)
        return float(min(1.0, len(p) * p.min()))


def _quantile(nulls: int) -> float:
    """Where the tail begins: at 95 %, for fewer than 2,000 nulls lower, but not below 90 %."""
    return float(np.clip(1 - _EXCESSES / max(nulls, 1), 0.90, 0.95))
