"""Shortcuts to the label: marks, regions, columns, what explains it, and what generation adds."""

from __future__ import annotations

from collections.abc import Callable

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Outcome
from fastgan.audit.shortcuts.amplification import judge_amplification
from fastgan.audit.shortcuts.attributes import judge_columns, judge_explained
from fastgan.audit.shortcuts.regions import judge_regions
from fastgan.audit.shortcuts.swap import judge_swap
from fastgan.audit.shortcuts.watermarks import judge_marks
from fastgan.errors import AuditError

__all__ = ["judge"]

_PARTS: dict[str, tuple[str, Callable[[Evidence, Options], Finding]]] = {
    "marks": ("Does a mark at a fixed place tell scanners or classes apart?", judge_marks),
    "regions": ("Can the label be told from corners, border or background alone?", judge_regions),
    "columns": ("Does a manifest column go with the label and show in the voxels?", judge_columns),
    "explained": ("What explains the label by itself?", judge_explained),
    "amplification": (
        "Does the label show more in generated than in real volumes where it should not?",
        judge_amplification,
    ),
    "swap": ("Does another class change the lesion and nothing else?", judge_swap),
}


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Six findings; those that the data do not allow say "cannot tell" and why.

    Raises:
        AuditError: not one of them can be made.
    """
    findings, reasons = [], []
    for key, (question, part) in _PARTS.items():
        try:
            findings.append(part(evidence, options))
        except AuditError as error:
            reasons.append(str(error))
            outcome = Outcome("cannot tell", f"Cannot tell: {error}.")
            findings.append(Finding("shortcuts", f"shortcuts.{key}", question, outcome))
    if len(reasons) == len(_PARTS):
        raise AuditError("; ".join(dict.fromkeys(reasons)))
    return findings
