"""What a study found: does an arm with generated volumes help, harm, or can nobody tell?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastgan.arrays import Floats
from fastgan.audit.statistics import holm
from fastgan.utility.corrected_t import Difference, corrected_t, detectable
from fastgan.utility.settings import GAN_ARMS, PARTNER, SIMPLE_ARMS, Arm
from fastgan.utility.subgroups import Group, GroupTable

__all__ = [
    "ALPHA",
    "Comparison",
    "Judgement",
    "Worth",
    "compared",
    "exit_code",
    "judge",
    "said_of_worth",
    "worth",
]

ALPHA = 0.05
"""Of the whole study, half for "helps" and half for "harms"."""
MOST_TIMES = 10.0  # beyond it a count of patients is no advice
Verdict = Literal["helps", "no evidence that it helps", "harms", "cannot tell"]


@dataclass(frozen=True)
class Comparison:
    """An arm with generated volumes against one without, in AUC."""

    arm: Arm
    other: Arm
    difference: Difference
    detectable: float
    """Gain that this many folds of such differences show with power 80 %."""
    room: float
    """What the other arm leaves to be gained: 1 minus its AUC."""


@dataclass(frozen=True)
class Worth:
    """How many more real patients would have brought what generated volumes did.

    Attributes:
        arm: which; compared with its partner, the same training without them.
        patients: extra ones, with the interval that the gain's 95 % interval leads to; may be
            below 0. None where the learning curve does not rise beyond doubt.
        low, high: of the interval.
        at_most: the number trained on; beyond so many extra ones the curve says nothing.
        slope: AUC gained per doubling of patients.
    """

    arm: Arm
    patients: float | None
    low: float | None
    high: float | None
    at_most: float
    slope: float


@dataclass(frozen=True)
class Judgement:
    """The verdict of one arm, in a sentence, and what it rests on."""

    arm: Arm
    verdict: Verdict
    sentence: str
    comparisons: tuple[Comparison, ...]
    p_helps: float
    p_harms: float
    """Corrected over the study's arms with generated volumes, and what each is held against."""
    harmed: tuple[Group, ...] = ()
    untold: tuple[Group, ...] = ()


def compared(areas: Mapping[Arm, Floats], share: float) -> list[Comparison]:
    """Every arm with generated volumes against every arm without.

    Args:
        areas: arm -> [J] AUC of each fold, mean over seeds.
        share: n_test / n_train.
    """
    gans = [arm for arm in GAN_ARMS if arm in areas]
    level = ALPHA / 2.0 / max(len(gans), 1)
    found = []
    for arm in gans:
        for other in SIMPLE_ARMS:
            if other in areas:
                d = areas[arm] - areas[other]
                least = detectable(float(np.std(d, ddof=1)), len(d), share, level)
                room = 1.0 - float(areas[other].mean())
                found.append(Comparison(arm, other, corrected_t(d, share), least, room))
    return found


def judge(
    comparisons: Sequence[Comparison],
    relevant: float,
    groups: Mapping[Arm, GroupTable],
    diverged: Mapping[str, Sequence[str]],
) -> list[Judgement]:
    """A verdict for each arm with generated volumes.

    It helps where it is better than every arm without (each test must reject; corrected over the
    arms), and harms where it is worse than real volumes alone or than its partner (Holm over all of
    these), or where a group is harmed. Else it depends on what could have been seen.
    """
    arms = list(dict.fromkeys(c.arm for c in comparisons))
    against = [c for c in comparisons if c.other in ("real", PARTNER[c.arm])]
    adjusted = holm([c.difference.p_below for c in against])
    harms = {(c.arm, c.other): float(p) for c, p in zip(against, adjusted, strict=True)}
    found = []
    for arm in arms:
        own = tuple(c for c in comparisons if c.arm == arm)
        helps = min(1.0, len(arms) * max(c.difference.p_above for c in own))
        worst = min((p, other) for (a, other), p in harms.items() if a == arm)
        table = groups.get(arm)
        every = () if table is None else table.groups
        harmed = tuple(g for g in every if g.standing == "harmed")
        untold = tuple(g for g in every if g.standing == "cannot tell")
        verdict, sentence = _said(own, helps, worst, harmed, relevant)
        if untold and verdict != "harms":
            sentence += f" Of {len(untold)} of {len(every)} groups nothing can be said yet."
        if diverged.get(arm):
            count = len(diverged[arm])
            sentence += f" {count} of its trainings diverged and count as chance."
        found.append(Judgement(arm, verdict, sentence, own, helps, worst[0], harmed, untold))
    return found


def _said(
    own: Sequence[Comparison],
    helps: float,
    worst: tuple[float, str],
    harmed: Sequence[Group],
    relevant: float,
) -> tuple[Verdict, str]:
    half = ALPHA / 2.0
    closest = min(own, key=lambda c: c.difference.mean)
    least = max(c.detectable for c in own)
    gain, (low, high) = closest.difference.mean, closest.difference.interval
    told = f"{gain:+.3f} (95 % {low:+.3f} to {high:+.3f}) against {closest.other}"
    if worst[0] <= half:
        below = next(c for c in own if c.other == worst[1]).difference
        return "harms", (
            f"Harms: AUC is {-below.mean:.3f} lower than with {worst[1]} (95 % "
            f"{below.interval[0]:+.3f} to {below.interval[1]:+.3f})."
        )
    if harmed:
        names = ", ".join(f"{g.column} {g.name}" for g in harmed[:3])
        better = "although the mean is better, " if helps <= half else ""
        return "harms", f"Harms: {better}the group {names} is worse off than with real alone."
    if helps <= half:
        return "helps", f"Helps: AUC is higher than with every arm without it, at least {told}."
    room = min(c.room for c in own)
    if room < relevant:
        return "cannot tell", (
            f"Cannot tell: {told}. Without it the AUC is {1.0 - room:.3f} already, which leaves no "
            f"room for a gain of {relevant:g}; ask a harder question."
        )
    if least <= relevant:
        return "no evidence that it helps", (
            f"No evidence that it helps: {told}. A gain of {relevant:g} or more over every other "
            "arm would have been found with a power of 80 %."
        )
    times = (least / relevant) ** 2
    more = f"about {times:.1f}" if times <= MOST_TIMES else f"more than {MOST_TIMES:g}"
    seen = f"Only a gain of {least:.3f} or more" if least < room else "No gain that is possible"
    return "cannot tell", (
        f"Cannot tell: {told}. {seen} would have been found with a power of 80 %; for {relevant:g} "
        f"{more} times as many patients are needed."
    )


def worth(
    arm: Arm,
    gain: Difference,
    curve: Sequence[tuple[float, Floats]],
    share: float,
) -> Worth:
    """Extra real patients that an arm's gain over its partner is worth.

    AUC of the partner is taken as linear in the logarithm of the number of patients, a line in each
    fold; with b gained per doubling and a gain g of the arm, that is n (2^(g / b) - 1) patients.

    Args:
        arm: with generated volumes.
        gain: over its partner, all patients trained on in both.
        curve: (patients, [J] AUC of the partner), the last point all patients.
        share: n_test / n_train.
    """
    n = max(patients for patients, _ in curve)
    x = np.log2([patients for patients, _ in curve])
    if len(curve) < 2 or np.ptp(x) == 0.0:
        return Worth(arm, None, None, None, n, float("nan"))
    y = np.stack([areas for _, areas in curve])
    slopes = ((x - x.mean())[:, None] * y).sum(0) / ((x - x.mean()) ** 2).sum()
    slope = corrected_t(slopes, share)
    if slope.mean <= 0.0 or slope.p_above > ALPHA:
        return Worth(arm, None, None, None, n, slope.mean)

    def extra(g: float) -> float:
        return n * (math.exp2(min(max(g / slope.mean, -20.0), 1.0)) - 1.0)

    low, high = gain.interval
    return Worth(arm, extra(gain.mean), extra(low), extra(high), n, slope.mean)


def exit_code(judgements: Sequence[Judgement]) -> int:
    """0: an arm helps, harming no group; 3: one harms and none helps; 4: neither is shown."""
    verdicts = [j.verdict for j in judgements]
    if any(j.verdict == "helps" and not j.untold for j in judgements):
        return 0
    return 3 if "harms" in verdicts and "helps" not in verdicts else 4


def said_of_worth(found: Worth) -> str:
    """The number of extra patients, in a sentence."""
    if found.patients is None or found.low is None or found.high is None:
        rise = "" if math.isnan(found.slope) else f" ({found.slope:+.3f} AUC per doubling)"
        return (
            f"{found.arm}: cannot tell how many real patients it is worth: the learning curve does "
            f"not rise beyond doubt{rise}."
        )
    low, high = f"{found.low:+.0f}", f"{found.high:+.0f}"
    high = f"more than {high}" if found.high >= found.at_most else high
    span = f"95 % {low} to {high}, of {found.at_most:.0f}"
    if found.patients <= 0.0:
        return f"{found.arm}: worth no extra real patients: {found.patients:+.0f} ({span})."
    more = "at least " if found.patients >= found.at_most else ""
    return f"{found.arm}: worth {more}{found.patients:.0f} extra real patients ({span})."
