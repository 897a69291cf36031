"""One audit makes every judgement on the same evidence, each alone, and settles all together."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Question, Settled, Verdict, cannot_tell, settle
from fastgan.errors import AuditError, ConfigError

__all__ = ["EXIT_CODES", "JUDGEMENTS", "Audit", "audit"]

JUDGEMENTS = {
    "memorization": "does the generator repeat training volumes?",
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
        """The worst verdict of all."""
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
    fails in a way nobody foresaw, and its traceback is kept. The others go on.

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
    for name in only or _asked(evidence):
        progress(f"{name}: {JUDGEMENTS[name]}")
        start = time.perf_counter()
        try:
            if shared and name != "leakage":
                raise AuditError(shared)
            found = importlib.import_module(f"fastgan.audit.{name}").judge(evidence, options)
        except AuditError as error:
            found = [_untold(name, str(error))]
        except Exception as error:
            faults[name] = traceback.format_exc()
            found = [_untold(name, f"a fault of fastgan, {type(error).__name__}: {error}")]
        findings += found
        seconds[name] = time.perf_counter() - start
        progress(f"{name}: {len(found)} findings in {seconds[name]:.0f} s")
    settled = settle(findings, alpha=options.alpha)
    return Audit(evidence, options, tuple(settled), seconds, faults)


def _asked(evidence: Evidence) -> list[str]:
    if evidence.translate is not None:
        return ["translation"]
    return [name for name in JUDGEMENTS if name != "translation"]


def _untold(name: str, reason: str) -> Finding:
    reason = reason[:1].upper() + reason[1:].rstrip(".")
    text = JUDGEMENTS[name]
    return Finding(*Question(name, name, text[:1].upper() + text[1:]), cannot_tell(reason))


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
