"""One audit makes every judgement on the same evidence, each alone, and settles all together."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import (
    Finding,
    Outcome,
    Question,
    Settled,
    Verdict,
    cannot_tell,
    not_asked,
    refusal,
    settle,
)
from fastgan.errors import AuditError, ConfigError
from fastgan.terminal import counted

__all__ = ["EXIT_CODES", "JUDGEMENTS", "Audit", "audit"]

JUDGEMENTS = {
    "memorization": "does the generator repeat training volumes?",
    "membership": "could somebody find out who was in the training set?",
    "labels": "do labels stay true under augmentation and generation?",
    "leakage": "do files give away the label, or patients sit on both sides?",
    "shortcuts": "can the label be read off marks, borders or columns?",
    "sites": "do hospitals or scanners differ?",
    "quality": "how close is the generated distribution to unseen patients?",
    "translation": "does translation keep anatomy and lesions?",
}
"""Wing of `fastgan.audit` -> what it asks; in the order of the report."""

EXIT_CODES: dict[Verdict, int] = {"pass": 0, "warn": 0, "fail": 3, "cannot tell": 4}
WORST_FIRST: tuple[Verdict, ...] = ("fail", "cannot tell", "warn", "pass")


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    evidence: Evidence
    options: Options
    settled: tuple[Settled, ...]
    seconds: dict[str, float]
    """Judgement -> how long it took."""
    faults: dict[str, str]
    """Judgement -> traceback of an error nobody foresaw."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all that was asked; where nothing was, nothing can be told."""
        found = {one.verdict for one in self.settled}
        return next((verdict for verdict in WORST_FIRST if verdict in found), "cannot tell")

    @property
    def exit_code(self) -> int:
        """0: none failed and all could be told; 3: one failed; 4: one could not be told."""
        return EXIT_CODES[self.verdict]


def audit(
    evidence: Evidence,
    options: Options = Options(),  # noqa: B008 (frozen)
    *,
    only: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Judge the evidence.

    A judgement that the data do not allow ends in "cannot tell" with the reason; so does one that
    fails in a way nobody foresaw, and its traceback is kept. The others go on. One that does not
    apply, or was left out, is "not asked".

    Args:
        evidence: all volumes, on one grid.
        options: seed, error level, effort.
        only: names of `JUDGEMENTS`; by default those that the evidence is for: `translation` where
            there is a translator, the others where there is none.
        progress: called with a line before and after each judgement.

    Where held-out subjects are in the training set too, only `leakage`, which reports that, runs.

    Raises:
        ConfigError: an unknown name in `only`.
        AuditError: volumes of different shapes.
    """
    unknown = [name for name in only if name not in JUDGEMENTS]
    if unknown:
        raise ConfigError(f"--only: unknown judgement {unknown[0]!r}; {', '.join(JUDGEMENTS)}")
    _check_shapes(evidence)
    shared = _shared_subjects(evidence)
    findings: list[Finding] = []
    seconds: dict[str, float] = {}
    faults: dict[str, str] = {}
    for name in JUDGEMENTS:
        reason = _left_out(name, evidence, only)
        if reason:
            findings.append(_whole(name, not_asked(reason)))
            continue
        progress(f"{name}: {JUDGEMENTS[name]}")
        start = time.perf_counter()
        try:
            if shared and name != "leakage":
                raise AuditError(shared)
            found = importlib.import_module(f"fastgan.audit.{name}").judge(evidence, options)
        except AuditError as error:
            found = [_whole(name, refusal(error))]
        except Exception as error:
            faults[name] = traceback.format_exc()
            reason = f"a fault of fastgan, {type(error).__name__}: {error}"
            found = [_whole(name, cannot_tell(reason, "report it with what was printed"))]
        findings += found
        seconds[name] = time.perf_counter() - start
        progress(f"{name}: {counted(len(found), 'finding')} in {seconds[name]:.0f} s")
    settled = settle(findings, alpha=options.alpha)
    return Audit(evidence, options, tuple(settled), seconds, faults)


def _left_out(name: str, evidence: Evidence, only: Sequence[str]) -> str:
    """Why a judgement is not made, or ""."""
    if only:
        return "" if name in only else "it was left out by --only"
    translates = evidence.translate is not None
    if translates == (name == "translation"):
        return ""
    if translates:
        return "it is of generated volumes, and a translator's follow their sources"
    return "nothing here translates volumes"


def _whole(name: str, outcome: Outcome) -> Finding:
    """One finding for all that a judgement asks."""
    text = JUDGEMENTS[name]
    return Finding(*Question(name, name, text[:1].upper() + text[1:]), outcome)


def _check_shapes(evidence: Evidence) -> None:
    shape = evidence.training.values.shape[1:]
    for cohort in (evidence.holdout, evidence.generated, evidence.target, evidence.truth):
        if cohort is not None and cohort.values.shape[1:] != shape:
            raise AuditError(
                f"audit: {cohort.name} volumes have {cohort.values.shape[1:]} voxels, training "
                f"volumes {shape}"
            )


def _shared_subjects(evidence: Evidence) -> str:
    """Why nothing can be judged against the hold-out, or ""."""
    known = set(evidence.training.subjects.tolist())
    shared = known & set(evidence.holdout.subjects.tolist())
    if not shared:
        return ""
    return (
        f"{len(shared)} of {evidence.holdout.n_subjects} held-out subjects are in the training set "
        "too, so nothing can be judged against them; split by subject"
    )
