"""Shares of patients with a fault, against the share that is tolerated."""

from __future__ import annotations

from fastgan.audit.judgement import Control, Outcome
from fastgan.audit.statistics import clopper_pearson

__all__ = ["POWER", "TOLERATED", "planted_control", "power_of", "rate_outcome"]

TOLERATED = 0.1
"""Largest share of patients with a lost, moved, inverted or invented structure."""
LEVEL = 0.95
POWER = 0.8
"""Share of planted faults that has to be found, of as many as there are patients."""


def rate_outcome(found: int, of: int, what: str, sentence: str) -> Outcome:
    """Fail when surely more than TOLERATED, pass when surely no more, else cannot tell.

    Args:
        found: subjects with the fault.
        of: subjects.
        what: the fault, in "no evidence of ...".
        sentence: the fault of so many patients, for a failure.
    """
    low = clopper_pearson(found, of, LEVEL, "lower")[0]
    high = clopper_pearson(found, of, LEVEL, "upper")[1]
    if low > TOLERATED:
        return Outcome("fail", f"{sentence}: {found} of {of} patients.")
    if high <= TOLERATED:
        return Outcome(
            "pass",
            f"No evidence of {what}: {found} of {of} patients, so at most {high:.1%} (95 %).",
        )
    return Outcome(
        "cannot tell",
        f"Cannot tell: {what} in {found} of {of} patients, so up to {high:.0%} (95 %); at most "
        f"{TOLERATED:.0%} would do.",
    )


def planted_control(name: str, found: int, of: int, *, quiet: bool = False) -> Control:
    """What became of `of` planted faults, or, if `quiet`, of as many cases without a fault."""
    rate = found / max(of, 1)
    held = rate <= TOLERATED if quiet else rate >= POWER
    interval = clopper_pearson(found, max(of, 1))
    return Control(name, "quiet" if quiet else "found", rate, interval, of, held)


def power_of(controls: tuple[Control, ...]) -> str:
    """The planted faults and how many of them were found, as a sentence; "" without any."""
    found = [f"{c.name}: {c.rate:.0%}" for c in controls if c.expected == "found"]
    return f"found: {', '.join(found)}" if found else ""
