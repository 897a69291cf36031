"""What self-contained pages share: escaping templates, numbers as people read them, pictures."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from importlib.resources import files
from typing import Any

__all__ = ["data_uri", "number", "template"]


def template(package: str, name: str, **filters: Callable[..., str]) -> Any:
    """A jinja2 template; to be kept, for it is compiled here.

    What it shows is escaped where its name ends in .html.j2; a name it uses and nobody gave is an
    error.

    Args:
        package: whose folder `templates` holds it.
        name: of the file.
        filters: beside `number`.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, **filters}
    text = files(package).joinpath("templates", name).read_text(encoding="utf-8")
    return environment.from_string(text)


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


def data_uri(png: bytes) -> str:
    """A PNG as the source of an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
