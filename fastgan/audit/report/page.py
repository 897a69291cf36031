"""The page report.html is self-contained, verdicts first; the cards are Markdown."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastgan.audit.judgement import Figure, Settled
from fastgan.audit.report.record import Record
from fastgan.pictures.html import data_uri, template

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


def p_value(value: float | None) -> str:
    """A p-value; never 0.

    >>> p_value(0.0004), p_value(0.2)
    ('0.0004', '0.20')
    """
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def _picture(figure: Figure) -> dict[str, str]:
    return {"title": figure.title, "caption": figure.caption, "source": data_uri(figure.png)}


@cache
def _template(name: str) -> Any:
    return template("fastgan.audit.report", name, p_value=p_value)
