"""The scorecard points from seven criteria that reviewers ask for to the judgements that answer.

It judges nothing itself: a criterion shows the worst verdict of what it points to, and says what
no judgement can answer, which whoever owns the set has to fill in.

Source: Zamzmi et al. 2025, "Scorecard for synthetic medical data evaluation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastgan.audit.judgement import Settled, Verdict

__all__ = ["CRITERIA", "Criterion", "CriterionRecord", "scorecard"]

WORST_FIRST: tuple[Verdict, ...] = ("fail", "cannot tell", "warn", "pass", "not asked")


@dataclass(frozen=True)
class Criterion:
    """What is asked, and who answers."""

    name: str
    asks: str
    questions: tuple[str, ...]
    """Keys of findings, or judgements as a whole."""
    owner: str = ""
    """What the owner of the set has to say, or ""."""


CRITERIA = (
    Criterion(
        "congruence",
        "Is the set distributed as patients are?",
        ("quality.distance", "quality.spectrum"),
    ),
    Criterion(
        "coverage",
        "Has it their variety, and does it reach them?",
        ("quality.coverage", "quality.diversity", "quality.repetition"),
    ),
    Criterion(
        "constraint",
        "Does it keep to anatomy and to its labels?",
        ("quality.blank", "labels", "translation"),
        "anatomy, as a reader of such images sees it",
    ),
    Criterion(
        "completeness",
        "Is each class and kind of patient there, and what the task needs?",
        ("quality.kinds",),
        "what the task needs beside volumes and labels",
    ),
    Criterion(
        "compliance",
        "Is it what privacy, law and formats ask?",
        ("memorization", "membership", "leakage"),
        "consent, licence, law and ethics",
    ),
    Criterion(
        "comprehension",
        "Can users understand how it was made, and for what?",
        (),
        "intended users; the cards say what is known of the making",
    ),
    Criterion(
        "consistency",
        "Is it alike over hospitals, scanners and groups?",
        ("sites", "shortcuts"),
        "sets generated again, at other times or by other runs",
    ),
)
"""Each question of the audit belongs to one."""


@dataclass(frozen=True)
class CriterionRecord:
    """One line of the scorecard."""

    name: str
    asks: str
    verdict: Verdict | None
    """The worst of the findings; null where there is none."""
    findings: tuple[str, ...]
    """Their keys."""
    owner: str
    """What the owner of the set has to fill in, or ""."""


def scorecard(settled: Sequence[Settled]) -> tuple[CriterionRecord, ...]:
    """The criteria, each with the findings that it points to, in the order of `CRITERIA`."""
    return tuple(_pointing(criterion, settled) for criterion in CRITERIA)


def _pointing(criterion: Criterion, settled: Sequence[Settled]) -> CriterionRecord:
    found = [one for one in settled if _answers(one.finding.key, criterion)]
    verdicts = {one.verdict for one in found}
    return CriterionRecord(
        criterion.name,
        criterion.asks,
        next((verdict for verdict in WORST_FIRST if verdict in verdicts), None),
        tuple(one.finding.key for one in found),
        criterion.owner,
    )


def _answers(key: str, criterion: Criterion) -> bool:
    """Whether a finding is of the criterion; one of a whole wing is of all that the wing asks."""
    return any(
        key == question or key.startswith(f"{question}.") or question.startswith(f"{key}.")
        for question in criterion.questions
    )
