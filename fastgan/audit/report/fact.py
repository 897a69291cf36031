"""What is known beside the audit, each with who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NOBODY", "NOT_KNOWN", "Fact", "Facts"]

NOT_KNOWN, NOBODY = "not known", "nobody here"


class Fact(NamedTuple):
    """One line of a card."""

    what: str
    value: str
    by: str
    """Who says so."""


@dataclass(frozen=True)
class Facts:
    """What the cards say beside the audit."""

    name: str
    model: tuple[Fact, ...]
    data: tuple[Fact, ...]
    attribution: str = ""
    """Of the data set, or ""."""
