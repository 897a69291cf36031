"""Rows of a Markdown table, and numbers as the pages print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["number", "power", "table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Header, rule and rows."""
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    head = "|" + "|".join(f" {cell} " if cell else " " for cell in header) + "|"
    return [head, "|" + "---|" * len(header), *lines]


def number(value: float, digits: int = 3) -> str:
    """`digits` significant ones, those before the point all shown: 0.123, 12.3, 1,234."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(digits - whole, 0)}f}"


def power(text: str) -> str:
    """A relative error such as `1.7e-04` to one digit: `2e-4`, `30`, `0`."""
    value = float(text)
    if value == 0:
        return "0"
    if value < 0.1:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.1e}'):,.0f}"
