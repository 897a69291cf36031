"""Templates of the report, and how numbers are written in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["number", "p_value", "template"]


def number(value: float | int | str | None) -> str:
    """A number as a reader wants it: three significant digits, thousands apart, none as a dash.

    >>> number(0.12345), number(1234), number(None)
    ('0.123', '1,234', '–')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def p_value(value: float | None) -> str:
    """A p-value; never 0.

    >>> p_value(0.0004), p_value(0.2)
    ('0.0004', '0.20')
    """
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


@cache
def template(name: str, **filters: Callable[..., str]) -> Any:
    """One of the templates beside this file; HTML is escaped, and a missing name is an error."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "p_value": p_value, **filters}
    text = files("fastgan.audit.report").joinpath("templates", name).read_text(encoding="utf-8")
    return environment.from_string(text)
