"""A question gets a finding, and a finding a verdict when all of an audit are settled together.

A judgement is a wing of `fastgan.audit` with `judge(evidence, options) -> list[Finding]`. It asks
questions, says what it measured and both what follows when its test rejects and when it does not;
`settle` decides, because only the audit knows how many tests were made, and holds every finding to
its controls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.statistics import holm
from fastgan.errors import AuditError

__all__ = [
    "Control",
    "Figure",
    "Finding",
    "Outcome",
    "Question",
    "Settled",
    "Table",
    "Verdict",
    "answer",
    "cannot_tell",
    "settle",
]

Verdict = Literal["pass", "warn", "fail", "cannot tell"]


@dataclass(frozen=True)
class Outcome:
    """A verdict and the one sentence that says it to a reader without training in statistics.

    A pass reads "no evidence of X found", never private, anonymous or safe.
    """

    verdict: Verdict
    sentence: str


def cannot_tell(reason: str) -> Outcome:
    """The outcome of what cannot be judged, with the reason."""
    return Outcome("cannot tell", f"Cannot tell: {reason}.")


class Question(NamedTuple):
    """What a finding answers: the first three fields of `Finding`."""

    judgement: str
    """The wing's name: "memorization"."""
    key: str
    """Unique within the audit, stable across versions: "memorization.copies"."""
    text: str


@dataclass(frozen=True)
class Control:
    """Something of known truth, put into the user's own data, and what the judgement made of it."""

    name: str
    """What was planted, or left alone."""
    expected: Literal["found", "quiet"]
    """A positive control must be found, a negative one must stay quiet."""
    rate: float
    """Share of runs in which it was found (alarm raised)."""
    interval: tuple[float, float]
    """95 % Clopper-Pearson interval of the rate."""
    runs: int
    held: bool
    """Whether it came out as expected, by the judgement's own limit."""
    decisive: bool = True
    """Whether the finding rests on it: a decisive control that does not hold makes the verdict
    "cannot tell"; the others are points of a power curve."""


@dataclass(frozen=True)
class Table:
    """Rows of a report, formatted as text or numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    note: str = ""
    patient: bool = False
    """Whether a cell names a patient or a file of one: shown where patient images are."""


@dataclass(frozen=True)
class Figure:
    """A picture of a report."""

    title: str
    caption: str
    png: bytes
    patient: bool = False
    """Whether it shows a patient: left out of the report unless patient images are allowed."""


@dataclass(frozen=True)
class Finding:
    """One question, answered: one line of the verdict table and the section behind it."""

    judgement: str
    key: str
    question: str
    """See `Question`."""
    accepted: Outcome
    """The outcome when the test does not reject, or when there is no test."""
    rejected: Outcome | None = None
    """The outcome when `p`, corrected over the audit, is at most alpha; needs `p`."""
    p: float | None = None
    """Uncorrected p-value; None where the verdict rests on an interval or a bound instead."""
    value: float | None = None
    value_name: str = ""
    """What the value is, with its unit."""
    interval: tuple[float, float] | None = None
    """95 % interval of the value, with the subject as unit."""
    floor: float | None = None
    """The same value between real volumes and real volumes."""
    floor_name: str = ""
    n_volumes: int = 0
    n_subjects: int = 0
    power: str = ""
    """What would have been found, and how surely, measured or by construction; "" is unmeasured,
    and nothing passes unmeasured."""
    controls: tuple[Control, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    methods: str = ""
    """How it was computed, for a reader who wants to repeat it."""
    limits: str = ""
    """What this finding does not say."""


@dataclass(frozen=True)
class Settled:
    """A finding with its verdict."""

    finding: Finding
    verdict: Verdict
    sentence: str
    p_adjusted: float | None


Part = Callable[[Evidence, Options], Finding | list[Finding]]
"""What answers a question, and perhaps others that rest on the same numbers."""


def answer(
    parts: Sequence[tuple[Question, Part]],
    evidence: Evidence,
    options: Options,
    *,
    one_at_least: bool = False,
) -> list[Finding]:
    """The findings of a wing's questions; one that the data do not allow says so, with the reason.

    Raises:
        AuditError: `one_at_least`, and the data do not allow any.
    """
    findings: list[Finding] = []
    reasons = []
    for question, part in parts:
        try:
            made = part(evidence, options)
        except AuditError as error:
            reasons.append(str(error))
            made = Finding(*question, cannot_tell(str(error)))
        findings += made if isinstance(made, list) else [made]
    if one_at_least and len(reasons) == len(parts):
        raise AuditError("; ".join(dict.fromkeys(reasons)))
    return findings


def settle(findings: Sequence[Finding], *, alpha: float) -> list[Settled]:
    """The verdicts of one audit, in the order of the findings.

    Holm's correction runs over all findings that carry a p-value. A pass whose decisive controls
    did not hold, or whose power is unmeasured (as in a quick audit, which plants nothing), becomes
    "cannot tell".

    Raises:
        ValueError: two findings of one key, or a p-value without an outcome for its rejection.
    """
    keys = [finding.key for finding in findings]
    if len(set(keys)) != len(keys):
        raise ValueError(f"settle: keys must be unique, got {keys}")
    tested = [finding for finding in findings if finding.p is not None]
    for finding in tested:
        if finding.rejected is None:
            raise ValueError(f"settle: {finding.key} has a p-value and no outcome for a rejection")
    adjusted = dict(
        zip((f.key for f in tested), holm([f.p for f in tested if f.p is not None]), strict=True)
    )
    return [_settled(f, adjusted.get(f.key), alpha) for f in findings]


def _settled(finding: Finding, p: float | None, alpha: float) -> Settled:
    if p is not None and p <= alpha and finding.rejected is not None:
        outcome = finding.rejected
    else:
        outcome = finding.accepted
    if outcome.verdict == "pass":
        missed = [c for c in finding.controls if c.decisive and not c.held]
        if missed:
            outcome = cannot_tell(_missed(missed[0]))
        elif not finding.power:
            outcome = Outcome("cannot tell", f"{outcome.sentence} Power unmeasured.")
    return Settled(finding, outcome.verdict, outcome.sentence, None if p is None else float(p))


def _missed(control: Control) -> str:
    share = f"{control.rate:.0%} of {control.runs} runs"
    if control.expected == "found":
        return f"the planted control ({control.name}) was found in {share} only"
    return f"the control without a fault ({control.name}) raised an alarm in {share}"
