"""Tables of attacks on memberships: how often they are wrong, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.tables.audit import SIZE_HEADER, holm_of, size_row
from tools.tables.markdown import table

__all__ = ["RENDERERS"]


def membership_sizes(files: list[Any]) -> list[str]:
    """How often an attack rejects, or bounds epsilon above 0, where nobody is known."""
    rows = [row for file in files for row in file["rows"]]
    holm = holm_of(rows)
    return table(SIZE_HEADER, [size_row(row, f"{holm[i]:.2f}") for i, row in enumerate(rows)])


def membership_power(files: list[Any]) -> list[str]:
    """Share of planted leaks that are found, by the number of patients."""
    rows = [row for file in files for row in file["rows"]]
    sides = list(dict.fromkeys((row["trained"], row["held"]) for row in rows))
    leaks = list(dict.fromkeys((row["attack"], row["leak"]) for row in rows))
    share = {
        (row["attack"], row["leak"], row["trained"], row["held"]): row["found"] / row["runs"]
        for row in rows
    }
    header = ["leak in", "how strong", *(f"{a} and {b}" for a, b in sides)]
    return table(
        header,
        [
            [*leak, *(f"{share[*leak, *s]:.2f}" if (*leak, *s) in share else "-" for s in sides)]
            for leak in leaks
        ],
    )


def membership_demo(files: list[Any]) -> list[str]:
    """What attacks on one run found."""
    return table(
        ["attack", "AUC", "95 % interval", "p, uncorrected", "members named at 1 % false alarms"],
        [
            [row["attack"], f"{row['auc']:.3f}", row["interval"], f"{row['p']:g}", row["named"]]
            for file in files
            for row in file["rows"]
        ],
    )


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "membership_sizes": membership_sizes,
    "membership_power": membership_power,
    "membership_demo": membership_demo,
}
