"""The page report.html is self-contained, verdicts first; the cards are Markdown."""

from __future__ import annotations

import base64
import math
from functools import cache
from importlib.resources import files
from typing import Any

from fastgan.audit.judgement import Figure, Settled
from fastgan.audit.report.record import Record

__all__ = ["dataset_card", "model_card", "page"]

VERDICT_WORDS = {
    "pass": "no evidence found",
    "warn": "look at this",
    "fail": "failed",
    "cannot tell": "cannot tell",
}
SUMMARY = {
    "pass": "No judgement failed, and all could be made.",
    "warn": "No judgement failed; some findings deserve a look before these volumes are used.",
    "fail": "At least one judgement failed. Do not use these volumes without resolving it.",
    "cannot tell": "At least one question could not be answered with these data.",
}


def page(record: Record, settled: tuple[Settled, ...], *, patient: bool = False) -> str:
    """HTML without scripts or references to anything outside it.

    Args:
        record: numbers and sentences.
        settled: the same findings in the same order, for their pictures.
        patient: include pictures of patients; the page is then marked CONTAINS PATIENT DATA.

    Returns:
        The page; below 3 MB as long as its pictures are.
    """
    pictures = {
        one.finding.key: [_picture(f) for f in one.finding.figures if patient or not f.patient]
        for one in settled
    }
    withheld = sum(f.patient for one in settled for f in one.finding.figures) if not patient else 0
    verdicts = [one.verdict for one in settled]
    text: str = _template("report.html.j2").render(
        record=record,
        pictures=pictures,
        withheld=withheld,
        patient=patient,
        words=VERDICT_WORDS,
        summary=SUMMARY[record.verdict],
        counts={name: verdicts.count(name) for name in VERDICT_WORDS if name in verdicts},
    )
    return text


def model_card(record: Record, facts: dict[str, Any]) -> str:
    """Markdown on the generator: what it was trained on, how, and what the audit said.

    Args:
        record: the audit.
        facts: what the run folder knows: "architecture", "objective", "steps", ... shown as given.
    """
    text: str = _template("model_card.md.j2").render(record=record, facts=facts)
    return text


def dataset_card(record: Record, facts: dict[str, Any]) -> str:
    """Markdown on the generated volumes as a data set.

    Args:
        record: the audit.
        facts: shown as given.
    """
    text: str = _template("dataset_card.md.j2").render(record=record, facts=facts)
    return text


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


def _picture(figure: Figure) -> dict[str, str]:
    data = base64.b64encode(figure.png).decode()
    return {
        "title": figure.title,
        "caption": figure.caption,
        "source": f"data:image/png;base64,{data}",
    }


@cache
def _template(name: str) -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "p_value": p_value}
    text = files("fastgan.audit.report").joinpath("templates", name).read_text(encoding="utf-8")
    return environment.from_string(text)
