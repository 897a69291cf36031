"""What a limit of the audit is, and where its value comes from."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CHOICE", "CONVENTION", "Rule"]

CONVENTION = "convention"
CHOICE = "a choice"


class Rule(NamedTuple):
    """One limit of the audit."""

    name: str
    """The judgement or finding that turns on it, then what it is: "labels.delta"."""
    value: float
    unit: str
    reason: str
    source: str
    """Where the value comes from: a measurement, a publication, a convention or a choice."""
