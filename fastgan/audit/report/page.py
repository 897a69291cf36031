"""The page report.html is self-contained, verdicts first."""

from __future__ import annotations

import base64

from fastgan.audit.judgement import Figure, Settled
from fastgan.audit.report.record import Record
from fastgan.audit.report.words import template

__all__ = ["page"]

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
    text: str = template("report.html.j2").render(
        record=record,
        pictures=pictures,
        withheld=withheld,
        patient=patient,
        words=VERDICT_WORDS,
        summary=SUMMARY[record.verdict],
        counts={name: verdicts.count(name) for name in VERDICT_WORDS if name in verdicts},
    )
    return text


def _picture(figure: Figure) -> dict[str, str]:
    data = base64.b64encode(figure.png).decode()
    return {
        "title": figure.title,
        "caption": figure.caption,
        "source": f"data:image/png;base64,{data}",
    }
