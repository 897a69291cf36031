"""A question gets a finding, and a finding a verdict when all of an audit are settled together.

A judgement is a wing of `fastgan.audit` with `judge(evidence, options) -> list[Finding]`. It asks
questions, says what it measured and both what follows when its test rejects and when it does not;
`settle` decides, because only the audit knows how many tests were made, and holds every finding to
its controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, NamedTuple

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.rules import limit, whole
from fastgan.audit.statistics import holm
from fastgan.errors import AuditError, NotAsked

__all__ = [
    "Control",
    "Figure",
    "Finding",
    "Outcome",
    "Part",
    "Question",
    "Settled",
    "Table",
    "Verdict",
    "answer",
    "cannot_tell",
    "not_asked",
    "refusal",
    "settle",
    "unless_nameless",
]

NEEDED = limit("controls.found")
"""Share of runs in which a planted fault must be found, where a judgement does not ask for more."""
MOST_TIMES = 5.0  # beyond it a count of subjects is no advice

Verdict = Literal["pass", "warn", "fail", "cannot tell", "not asked"]
"""A question that does not apply is not asked; one that does and has no answer cannot be told."""


@dataclass(frozen=True)
class Outcome:
    """A verdict and the one sentence that says it to a reader without training in statistics.

    A pass reads "no evidence of X found", never private, anonymous or safe.
    """

    verdict: Verdict
    sentence: str


def cannot_tell(reason: str, then: str = "") -> Outcome:
    """The outcome of what cannot be judged, with the reason and what would help."""
    return Outcome("cannot tell", f"Cannot tell: {reason}." + (f" Next: {then}." if then else ""))


def not_asked(reason: str) -> Outcome:
    """The outcome of a question that does not apply, with the reason."""
    return Outcome("not asked", f"Not asked: {reason}.")


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
    """Whether the finding rests on it: with a decisive fault that is missed nothing passes, and
    with a decisive alarm where there is no fault nothing is judged; the others are points of a
    power curve."""


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
    """What would have been found, and how surely, as the planted controls say."""
    by_construction: str = ""
    """Why nothing had to be planted: everything is compared, or a bound on these very data says
    what is ruled out. Without it and without a decisive planted fault, nothing passes."""
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


def unless_nameless(finding: Finding, reason: str) -> Finding:
    """The finding, which does not pass where `reason` says that patients are not told apart.

    Args:
        finding: of a question that rests on who is held out.
        reason: `Evidence.nameless`; "" where subjects are named.
    """
    if not reason or finding.accepted.verdict != "pass":
        return finding
    return replace(finding, accepted=cannot_tell(reason))


def answer(
    parts: Sequence[tuple[Question, Part]],
    evidence: Evidence,
    options: Options,
    *,
    one_at_least: bool = False,
) -> list[Finding]:
    """The findings of a wing's questions; one that the data do not allow says so, with the reason.

    Raises:
        AuditError: `one_at_least`, and the data do not allow any; NotAsked if none applies.
    """
    findings: list[Finding] = []
    refused: list[AuditError] = []
    for question, part in parts:
        try:
            made = part(evidence, options)
        except AuditError as error:
            refused.append(error)
            made = Finding(*question, refusal(error))
        findings += made if isinstance(made, list) else [made]
    if one_at_least and len(refused) == len(parts):
        kind = NotAsked if all(isinstance(e, NotAsked) for e in refused) else AuditError
        raise kind("; ".join(dict.fromkeys(str(error) for error in refused)))
    return findings


def refusal(error: AuditError) -> Outcome:
    """The outcome of a question that was refused: whether it applies decides which."""
    reason = str(error).rstrip(".")
    return not_asked(reason) if isinstance(error, NotAsked) else cannot_tell(reason)


def settle(findings: Sequence[Finding], *, alpha: float) -> list[Settled]:
    """The verdicts of one audit, in the order of the findings.

    Holm's correction runs over all findings that carry a p-value. A verdict of a test that raises
    alarms where there is no fault, whichever way it went, becomes "cannot tell"; so does a pass
    whose planted faults were missed, or for which none was planted (as in a quick audit) although
    it needs them.

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
    outcome = _allowed(finding, outcome)
    return Settled(finding, outcome.verdict, outcome.sentence, None if p is None else float(p))


def _allowed(finding: Finding, outcome: Outcome) -> Outcome:
    """What of an outcome the controls of its finding leave standing."""
    if outcome.verdict in ("cannot tell", "not asked"):
        return outcome
    decisive = [c for c in finding.controls if c.decisive]
    for control in decisive:
        if control.expected == "quiet" and not control.held:
            said = f"; it said: {outcome.sentence.rstrip('.')}" if outcome.verdict == "fail" else ""
            return cannot_tell(
                f"the control without a fault ({control.name}) raised an alarm in "
                f"{_share(control)}, so neither an alarm nor none means anything here{said}",
                "look for what breaks the test: a split by site or time instead of by chance, one "
                "patient under two names, volumes listed twice",
            )
    if outcome.verdict != "pass":
        return outcome
    for control in decisive:
        if not control.held:
            reason = f"the planted control ({control.name}) was found in {_share(control)} only"
            return cannot_tell(reason, _more(finding, control))
    if not finding.by_construction and not any(c.expected == "found" for c in decisive):
        said = "Power unmeasured: no fault was planted, as with --quick."
        return Outcome("cannot tell", f"{outcome.sentence} {said}")
    return outcome


def _share(control: Control) -> str:
    return f"{control.rate:.0%} of {control.runs} runs"


def _more(finding: Finding, control: Control) -> str:
    """What would help where a planted fault is missed: about how many subjects more.

    The noncentrality of a test grows with the root of their number; that is all that is supposed.
    """
    if control.rate >= NEEDED:
        return "plant more runs, so that the share is known well enough"
    normal = NormalDist()
    level = -normal.inv_cdf(limit("audit.alpha") / whole("audit.tests"))
    here = level + normal.inv_cdf(min(max(control.rate, 1 / (2 * max(control.runs, 1))), 0.99))
    reached = max(here, 0.0) / (level + normal.inv_cdf(NEEDED))
    if reached**2 * MOST_TIMES < 1.0:
        return f"more than {MOST_TIMES:g} times as many subjects"
    times = 1 / reached**2
    if not finding.n_subjects:
        return f"about {times:.1f} times as many subjects"
    needed = math.ceil(times * finding.n_subjects)
    step = 10 ** max(0, len(str(needed)) - 2)
    needed = math.ceil(needed / step) * step
    return f"about {needed:,} subjects instead of {finding.n_subjects:,}"
