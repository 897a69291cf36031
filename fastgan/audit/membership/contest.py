"""Members and others are held against each other by scores of attacks; the patient is the unit.

Which patients were trained on was dealt by chance, so under an attack that learns nothing every
other deal of as many patients is as likely: the p-values here are exact for any scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit.rules import limit
from fastgan.audit.statistics import permutation_p

__all__ = ["Contest", "TruePositives", "deal", "midranks", "true_positives"]

HEAD = limit("membership.head")
"""Share of all patients, those with the highest scores, among whom members are counted."""


def deal(n_members: int, n: int, rng: np.random.Generator, count: int) -> Bools:
    """[count, n] random deals of `n_members` memberships among n patients."""
    row = np.arange(n) < n_members
    return rng.permuted(np.tile(row, (count, 1)), axis=1)


def midranks(scores: Floats) -> Floats:
    """Ranks 1 to n of scores [..., n]; equal scores share the mean of theirs.

    >>> midranks(np.array([0.5, 2.0, 2.0, -1.0])).tolist()
    [2.0, 3.5, 3.5, 1.0]
    """
    flat = np.asarray(scores, np.float64).reshape(-1, np.shape(scores)[-1])
    out = np.empty(flat.shape)
    for row, ranks in zip(flat, out, strict=True):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        ranks[:] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return out.reshape(np.shape(scores))


def _head(ranks: Floats) -> Floats:
    """1 for the `HEAD` of patients with the highest ranks [..., n]; equal ones share places."""
    n = ranks.shape[-1]
    places = max(1.0, round(HEAD * n))
    above = n - ranks  # patients above, those of the same score counted half
    ties = np.empty_like(above)
    for row, tied in zip(above.reshape(-1, n), ties.reshape(-1, n), strict=True):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        tied[:] = counts[inverse]
    first = above - (ties - 1) / 2
    out: Floats = np.clip((places - first) / ties, 0.0, 1.0)
    return out


@dataclass(frozen=True)
class Contest:
    """A number of members among all patients, and random deals of as many.

    One attack is judged by two statistics: the sum of its members' ranks (its AUC), which sees a
    little of everybody, and the members among the patients with the highest scores, which sees
    few who are wholly exposed. Both are standardised by their moments over all deals, and the
    largest of all attacks is compared with the largest in each random deal.
    """

    n_members: int
    n: int
    dealt: Floats
    """[B, n] 1 where a patient is dealt a membership."""

    @staticmethod
    def draw(n_members: int, n: int, rng: np.random.Generator, count: int) -> Contest:
        """With `count` random deals."""
        return Contest(n_members, n, deal(n_members, n, rng, count).astype(np.float64))

    def p(self, scores: Floats, member: Bools) -> float:
        """p-value of the attacks [A, n] together, the largest of their statistics."""
        return float(self.p_of_sets(scores[None], member[None])[0])

    def largest(self, scores: Floats, member: Bools) -> float:
        """The largest standardised statistic of the attacks [A, n]."""
        columns, mean, spread = self._columns(scores)
        return float(((member.astype(np.float64) @ columns - mean) / spread).max())

    def p_each(self, scores: Floats, member: Bools) -> Floats:
        """[A] p-value of each attack [A, n] by itself, uncorrected."""
        return np.array([self.p(one[None], member) for one in scores])

    def p_of_deals(self, scores: Floats, members: Bools) -> Floats:
        """[R] p-values of the same scores [A, n] for R deals of memberships [R, n]."""
        columns, mean, spread = self._columns(scores)
        null = ((self.dealt @ columns - mean) / spread).max(axis=1)
        seen = ((members.astype(np.float64) @ columns - mean) / spread).max(axis=1)
        return np.array([permutation_p(float(one) - _TIE, null) for one in seen])

    def p_of_sets(self, scores: Floats, members: Bools) -> Floats:
        """[R] p-values of R sets of scores [R, A, n], each with its own members [R, n]."""
        out = np.empty(len(scores))
        for start in range(0, len(scores), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found = [self._columns(one) for one in scores[part]]
            null = self.dealt @ np.concatenate([columns for columns, _, _ in found], axis=1)
            width = found[0][0].shape[1]
            for i, (columns, mean, spread) in enumerate(found):
                seen = (members[start + i].astype(np.float64) @ columns - mean) / spread
                own = (null[:, i * width : (i + 1) * width] - mean) / spread
                out[start + i] = permutation_p(float(seen.max()) - _TIE, own.max(axis=1))
        return out

    def _columns(self, scores: Floats) -> tuple[Floats, Floats, Floats]:
        """[n, 2 A] what members are summed over, with mean and deviation of the sum over deals."""
        ranks = midranks(np.asarray(scores))
        columns = np.concatenate([ranks, _head(ranks)]).T
        share = self.n_members / self.n
        mean = share * columns.sum(axis=0)
        # Drawing without replacement.
        variance = self.n_members * (1 - share) * columns.var(axis=0, ddof=1)
        return columns, mean, np.where(variance > 0, np.sqrt(variance), np.inf)


_TIE = 1e-9  # rounding of sums; a tie counts against the attack
_AT_ONCE = 50  # sets; a product of matrices in place of as many of a matrix and few columns


@dataclass(frozen=True)
class TruePositives:
    """How many members an attack names while it names few others."""

    allowed: float
    """Share of the others that may be named."""
    named: int
    """Members above the threshold."""
    members: int
    wrong: int
    """Others above the threshold."""
    others: int

    @property
    def rate(self) -> float:
        """Share of the members that are named."""
        return self.named / self.members


def true_positives(scores: Floats, member: Bools, allowed: float) -> TruePositives | None:
    """Members with scores above all but a share `allowed` of the others.

    Returns:
        None where fewer than 1 / allowed others are there: what happens to 1 in 1,000 cannot be
        seen among 100.
    """
    ours, others = np.sort(scores[member])[::-1], np.sort(scores[~member])[::-1]
    exceed = int(np.floor(allowed * len(others) + 1e-9))
    if exceed < 1:
        return None
    # The next one is the threshold; who equals it is not named.
    threshold = others[exceed] if exceed < len(others) else -np.inf
    named = int(np.count_nonzero(ours > threshold))
    wrong = int(np.count_nonzero(others > threshold))
    return TruePositives(allowed, named, len(ours), wrong, len(others))
