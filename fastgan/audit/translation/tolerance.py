"""The share of patients with a fault is held against the share that is tolerated."""

from __future__ import annotations

from fastgan.audit.judgement import Control, Outcome, cannot_tell
from fastgan.audit.rules import limit
from fastgan.audit.statistics import clopper_pearson

__all__ = ["TOLERATED", "power_of", "rate_outcome"]

TOLERATED = limit("translation.tolerated")
"""Largest share of patients with a lost, moved, inverted or invented structure."""
LEVEL = limit("audit.certified")


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
    return cannot_tell(
        f"{what} in {found} of {of} patients, so up to {high:.0%} (95 %); at most {TOLERATED:.0%} "
        "would do",
        f"{_enough(found):,} patients, if no more than these {found} show it",
    )


def _enough(found: int) -> int:
    """The least number of patients of whom `found` with the fault would still pass."""
    of = max(found, 1)
    while clopper_pearson(found, of, LEVEL, "upper")[1] > TOLERATED:
        of += 1
    return of


def power_of(planted: tuple[Control, ...]) -> str:
    """The planted faults and how many of them were found, as a sentence; "" without any."""
    found = [f"{c.name}: {c.rate:.0%}" for c in planted if c.expected == "found"]
    return f"found: {', '.join(found)}" if found else ""
