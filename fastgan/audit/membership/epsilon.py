"""From right guesses of memberships in one run to a lower bound of epsilon.

If training were epsilon-differentially private towards exchanging one patient for another, whoever
sees what it left could hardly guess who took part. Given who came before, the odds that patient i
took part are m / (u - m), of m memberships left for u patients left, and what was seen changes them
by a factor of at most exp(epsilon): a deal of memberships with patient i differs from one without
by one exchange. So the number of right guesses is bounded by that of a player who may choose, at
each guess, how much it learns within these bounds. Its best play is found by going backwards.

That is the version of the one-run audit for a fixed number of members, each of whose deals is as
likely as any other. Epsilon here is pure (delta is 0) and counts whole patients.

Source: Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", whose
theorem is of independent memberships of probability 1/2.
"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.rules import limit

__all__ = ["epsilon_bound", "guesses", "right_guesses_p"]

GUESSED = 0.1
"""Share of all patients guessed to be members, and as many guessed not to be."""
MOST_GUESSES = 100
"""Guesses of either kind; more cost time and say little more."""
_LARGEST = 20.0
_CERTIFIED = limit("audit.certified")


def guesses(n: int) -> int:
    """Guesses of either kind among n patients, fixed before anything is seen."""
    return max(1, min(MOST_GUESSES, int(GUESSED * n)))


def epsilon_bound(
    scores: Floats,
    member: Bools,
    rng: np.random.Generator,
    level: float = _CERTIFIED,
) -> float:
    """Lower bound of epsilon, at confidence `level`, from the guesses of one attack.

    Args:
        scores: [n] of all patients; the highest are guessed to be members, the lowest not to be.
        member: [n].
        rng: of the order of equal scores.
        level: of the bound; with A attacks of which the best counts, 1 - (1 - level) / A.
    """
    n, count = len(scores), guesses(len(scores))
    shuffled = rng.permutation(n)
    order = shuffled[np.argsort(scores[shuffled], kind="stable")]
    right = int(member[order[-count:]].sum() + (~member[order[:count]]).sum())
    n_members = int(member.sum())

    def likely(epsilon: float) -> bool:
        return right_guesses_p(right, count, n_members, n, epsilon) > 1 - level

    if likely(0.0):
        return 0.0
    if not likely(_LARGEST):
        return _LARGEST
    low, high = 0.0, _LARGEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if likely(middle) else (middle, high)
    return low


def right_guesses_p(right: int, count: int, n_members: int, n: int, epsilon: float) -> float:
    """Largest probability of `right` or more right guesses that epsilon allows.

    `count` patients are guessed to be members, then as many not to be, of n with `n_members`.
    At epsilon 0 it is the probability of so many by chance.

    Cost: count^3 operations.
    """
    factor = np.exp(epsilon)
    # Worth of every state after the last guess: [members among the first, members among the rest].
    first, rest = np.arange(count + 1)[:, None], np.arange(count + 1)[None]
    worth: Floats = (first + count - rest >= right).astype(np.float64)
    for done in range(count - 1, -1, -1):
        left = _left(n_members - first - rest[:, : done + 1], n - count - done)
        worth = _best(left, factor, worth[:, 1 : done + 2], worth[:, : done + 1])
    one: Floats = worth[:, 0]
    for done in range(count - 1, -1, -1):
        left = _left(n_members - np.arange(done + 1), n - done)
        one = _best(left, factor, one[1 : done + 2], one[: done + 1])
    return float(one[0])


def _left(members: Integers, patients: int) -> Floats:
    """Share of memberships among the patients left; states that cannot be are kept in range."""
    out: Floats = np.clip(members / patients, 0.0, 1.0)
    return out


def _best(share: Floats, factor: float, if_member: Floats, if_not: Floats) -> Floats:
    """Worth where the probability of membership may be moved by a factor of the odds, either way.

    It is linear in the probability, so one of the ends is best.
    """
    high = share * factor / (share * factor + 1 - share)
    low = share / (share + (1 - share) * factor)
    chosen = np.where(if_member > if_not, high, low)
    out: Floats = chosen * if_member + (1 - chosen) * if_not
    return out
