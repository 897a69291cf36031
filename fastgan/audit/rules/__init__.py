"""All limits on which a verdict turns stand in one table, each with its unit, reason and source.

Wings read them by name, so a limit is never written where it is used. What only costs time (draws
of an interval, volumes at once) or describes a method (folds, quantiles) is no limit and stands
with its code. A limit whose source is "a choice" has not been derived from measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastgan.audit.rules.copies_and_labels import LABELS, LEAKAGE, MEMORIZATION
from fastgan.audit.rules.membership import MEMBERSHIP
from fastgan.audit.rules.quality_and_translation import FIDELITY, QUALITY, TRANSLATION
from fastgan.audit.rules.rule import Rule
from fastgan.audit.rules.shortcuts_and_sites import SHORTCUTS, SITES
from fastgan.audit.rules.whole_audit import AUDIT, CONTROLS, EXCHANGE

__all__ = ["RULES", "Rule", "limit", "table", "whole"]

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for part in (
        AUDIT,
        EXCHANGE,
        CONTROLS,
        MEMORIZATION,
        MEMBERSHIP,
        LABELS,
        LEAKAGE,
        SHORTCUTS,
        SITES,
        QUALITY,
        FIDELITY,
        TRANSLATION,
    )
    for rule in part
}
"""Name -> rule, in the order of the report."""


def limit(name: str) -> float:
    """The value of a rule."""
    return float(RULES[name].value)


def whole(name: str) -> int:
    """The value of a rule that counts something.

    Raises:
        ValueError: it is not a whole number.
    """
    value = RULES[name].value
    if value != int(value):
        raise ValueError(f"rules: {name} is {value:g} and counts nothing")
    return int(value)


def table() -> str:
    """The rules as a table in Markdown, as docs/audit/rules.md has it."""
    rows = [
        f"| {r.name} | {r.value:g} | {r.unit} | {r.reason} | {r.source} |" for r in RULES.values()
    ]
    return "\n".join(["| rule | value | unit | why | source |", "|---|---|---|---|---|", *rows])
