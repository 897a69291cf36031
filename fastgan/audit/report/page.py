"""The page report.html answers first what a board asks; it is self-contained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastgan.audit.judgement import Figure, Settled, Verdict
from fastgan.audit.report.record import FindingRecord, Record
from fastgan.pictures.html import data_uri, number, template

__all__ = ["FIRST", "page"]

ANSWERS: dict[Verdict, str] = {
    "pass": "Yes, for what is said below: no judgement failed, and each that was asked was made.",
    "warn": "Yes, for what is said below, by those who know the warnings: none of the judgements "
    "failed.",
    "fail": "No, not before what failed is resolved.",
    "cannot tell": "Not on this report alone: what is unknown below has no answer yet.",
}
PURPOSE = "adding to the training set of a network that is then tested on real patients."
NEVER = (
    " Never: for diagnosis, in place of patients in a test, or passed on as if no patient could be "
    "recognised."
)
PURPOSES: dict[Verdict, str] = {
    "pass": f"For {PURPOSE}{NEVER}",
    "warn": f"For {PURPOSE}{NEVER}",
    "fail": f"For nothing. Once what failed is resolved and judged anew: {PURPOSE}{NEVER}",
    "cannot tell": f"For nothing yet. If the open questions are answered: {PURPOSE}{NEVER}",
}
MEANINGS: dict[Verdict, str] = {
    "fail": "There is evidence of the fault.",
    "cannot tell": "There is no answer: too few patients, or a fault that was planted on purpose "
    "was missed. It is not a pass.",
    "warn": "Something to know of, no reason by itself to withhold the volumes.",
    "pass": "No evidence of the fault was found by a test that would have found it as stated.",
    "not asked": "The question does not apply to these data. Nothing is said about it.",
}
"""Worst first."""
HARMS = {
    "memorization": "A copied patient may be recognised by whoever gets the volumes.",
    "membership": "Whoever finds out that a patient was trained on learns where and why it was "
    "treated.",
    "labels": "A wrong label teaches a network the wrong disease.",
    "leakage": "A patient on both sides of the split makes tests look better than they are.",
    "shortcuts": "A network that reads a mark instead of the disease fails where there is none.",
    "sites": "What differs between hospitals may be learned in place of the disease.",
    "quality": "Volumes unlike patients, or too much like each other, teach little or wrongly.",
    "translation": "A lesion that is lost or invented misleads whoever reads the picture.",
}
"""Judgement -> what follows if its faults are real."""
TERMS = {
    "held-out patients": "kept away from the generator, so they show what chance does.",
    "planted fault": "a fault of known size put into these very volumes, to see if it is found.",
    "power": "the share of planted faults that were found; 80 % or more is asked.",
    "p-value": "how often chance alone gives a result as strong; small means not chance.",
    "Holm": "a correction that keeps the chance of any false alarm in the whole report at 5 %.",
    "95 % interval": "the values that the data do not contradict; narrow with many patients.",
    "AUC": "how well two groups are told apart: 0.5 is guessing, 1 is always right.",
    "coverage": "the share of patients that have a generated volume near them.",
    "permutation": "patients exchanged at random, to see what chance gives.",
    "kernel distance": "how far two sets of volumes lie apart; 0 if they are of one kind.",
}
FIRST = 3
"""Findings that the first screen names."""


def page(
    record: Record,
    settled: tuple[Settled, ...],
    *,
    montage: Sequence[Figure] = (),
    patient: bool = False,
) -> str:
    """HTML without scripts or references to anything outside it.

    Args:
        record: numbers and sentences.
        settled: the same findings in the same order, for their pictures.
        montage: pictures of the first screen.
        patient: include pictures of patients; the page is then marked CONTAINS PATIENT DATA.

    Returns:
        The page; below 3 MB as long as its pictures are.
    """
    every = [*montage, *(f for one in settled for f in one.finding.figures)]
    verdicts = [f.verdict for f in record.findings]
    text: str = _template().render(
        record=record,
        answer=ANSWERS[record.verdict],
        purpose=PURPOSES[record.verdict],
        counts={name: verdicts.count(name) for name in MEANINGS if name in verdicts},
        meanings=MEANINGS,
        first=_first(record),
        untold=[f for f in record.findings if f.verdict == "cannot tell"],
        unasked=verdicts.count("not asked"),
        montage=_pictures(montage, patient=patient),
        chapters=_chapters(record),
        harms=HARMS,
        pictures={
            one.finding.key: _pictures(one.finding.figures, patient=patient) for one in settled
        },
        withheld=0 if patient else sum(f.patient for f in every),
        patient=patient,
        terms=TERMS,
    )
    return text


def _first(record: Record) -> list[FindingRecord]:
    """The findings to know first: the worst, and of those the most harmful."""
    order: list[Verdict] = ["fail", "cannot tell", "warn"]
    worst = [f for f in record.findings if f.verdict in order]
    return sorted(worst, key=lambda f: order.index(f.verdict))[:FIRST]


def _chapters(record: Record) -> dict[str, list[FindingRecord]]:
    """Judgement -> its findings, in the order of the record, which is that of harm."""
    chapters: dict[str, list[FindingRecord]] = {}
    for finding in record.findings:
        chapters.setdefault(finding.judgement, []).append(finding)
    return chapters


def _pictures(figures: Sequence[Figure], *, patient: bool) -> list[dict[str, str]]:
    return [
        {"title": f.title, "caption": f.caption, "source": data_uri(f.png)}
        for f in figures
        if patient or not f.patient
    ]


def measured(value: float | None, name: str) -> str:
    """A number in the unit of its name: a share in percent, all else as it is.

    >>> measured(0.125, "share of patients"), measured(0.125, "AUC of size")
    ('12.5 %', '0.125')
    """
    if value is not None and name.startswith("share"):
        return f"{number(100 * value)} %"
    return number(value)


def p_value(value: float | None) -> str:
    """A p-value; never 0.

    >>> p_value(0.0004), p_value(0.2)
    ('0.0004', '0.20')
    """
    if value is None:
        return "–"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


@cache
def _template() -> Any:
    return template("fastgan.audit.report", "report.html.j2", p_value=p_value, measured=measured)
