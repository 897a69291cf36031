"""What attacks found: areas, rates at few false alarms, and a bound of epsilon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import Table
from fastgan.audit.membership.contest import Contest, TruePositives, true_positives
from fastgan.audit.membership.epsilon import epsilon_bound, guesses
from fastgan.audit.rules import limit
from fastgan.audit.statistics import auc, auc_interval, clopper_pearson

__all__ = ["ALLOWED", "Exposure", "exposure_of"]

ALLOWED = (0.01, 0.001)
"""Shares of held-out patients that may be named by mistake."""
CERTIFIED = limit("audit.certified")


@dataclass(frozen=True)
class Exposure:
    """What a set of attacks tells, and the strongest of them in full."""

    attacks: tuple[str, ...]
    member: Bools
    """[n]"""
    scores: Floats
    """[A, n]"""
    p: float
    """Of all attacks together."""
    p_each: Floats
    """[A] uncorrected."""
    areas: Floats
    """[A] area under the curve, patients against patients."""
    intervals: tuple[tuple[float, float], ...]
    """95 % of the areas, by drawing patients again."""
    epsilon: float
    """Lower bound of the strongest guesses, one-sided, corrected for the number of attacks."""

    @property
    def strongest(self) -> int:
        """The attack with the largest area."""
        return int(np.argmax(self.areas))

    def named(self, attack: int, allowed: float) -> TruePositives | None:
        """Members that an attack names at a share of mistakes; None where n says nothing."""
        return true_positives(self.scores[attack], self.member, allowed)

    @property
    def said(self) -> str:
        """The strongest attack in words."""
        at = self.strongest
        low, high = self.intervals[at]
        return (
            f"the strongest of {len(self.attacks)} attacks ({self.attacks[at]}) has an AUC of "
            f"{self.areas[at]:.2f} [{low:.2f}, {high:.2f}] over {len(self.member)} patients, names "
            f"{self._rate(at, ALLOWED[0])} at 1 % false alarms, and bounds epsilon from below by "
            f"{self.epsilon:.2g}"
        )

    def _rate(self, attack: int, allowed: float) -> str:
        found = self.named(attack, allowed)
        if found is None:
            return "an unknown share of members (too few are held out)"
        return f"{found.rate:.1%} of members"

    def tables(self) -> tuple[Table, ...]:
        """Attack by attack, and their rates at few mistakes."""
        rows = tuple(
            (name, round(float(a), 3), f"{low:.3f} to {high:.3f}", float(f"{p:.2g}"))
            for name, a, (low, high), p in zip(
                self.attacks, self.areas, self.intervals, self.p_each, strict=True
            )
        )
        others = int((~self.member).sum())
        count = guesses(len(self.member))
        return (
            Table(
                "Attacks",
                ("attack", "AUC", "95 % interval", "p, uncorrected"),
                rows,
                f"{len(self.member) - others} patients trained on, {others} held out; "
                f"p of all together {self.p:.2g}. Lower bound of epsilon (95 %, {count} guesses of "
                f"either kind, the best attack, corrected): {self.epsilon:.2g}.",
            ),
            Table(
                "Members named at few false alarms",
                ("attack", "false alarms allowed", "members named", "95 % interval", "false"),
                tuple(self._row(i, at) for i in range(len(self.attacks)) for at in ALLOWED),
                "Chance names as many members as others. Clopper-Pearson interval, the threshold "
                "taken as it came out. With fewer than 100 (1,000) held-out patients nothing can "
                "be said of 1 % (0.1 %).",
            ),
        )

    def _row(self, attack: int, allowed: float) -> tuple[str, ...]:
        found = self.named(attack, allowed)
        name, share = self.attacks[attack], f"{allowed:.1%}"
        if found is None:
            others = int((~self.member).sum())
            needed = round(1 / allowed)
            return (name, share, "cannot tell", "", f"{others} held out, {needed:,} needed")
        low, high = clopper_pearson(found.named, found.members)
        return (
            name,
            share,
            f"{found.rate:.1%} ({found.named} of {found.members})",
            f"{low:.1%} to {high:.1%}",
            f"{found.wrong} of {found.others}",
        )


def exposure_of(
    attacks: tuple[str, ...], scores: Floats, member: Bools, contest: Contest, options: Options
) -> Exposure:
    """Everything that is said of scores [A, n] of members [n] and others."""
    who = np.arange(len(member))
    each = f"membership/{attacks[0]}"
    intervals = tuple(
        auc_interval(one, member, who, options.rng(f"{each}/interval/{i}"))
        for i, one in enumerate(scores)
    )
    level = 1 - (1 - CERTIFIED) / len(scores)
    bounds = [
        epsilon_bound(one, member, options.rng(f"{each}/guesses/{i}"), level)
        for i, one in enumerate(scores)
    ]
    return Exposure(
        attacks,
        member,
        scores,
        contest.p(scores, member),
        contest.p_each(scores, member),
        np.array([auc(one, member) for one in scores]),
        intervals,
        max(bounds),
    )
