"""Six questions ask for shortcuts to the label, among them what generation adds to them."""

from __future__ import annotations

from collections.abc import Sequence

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, Part, Question, answer
from fastgan.audit.shortcuts import amplification, attributes, regions, swap, watermarks
from fastgan.errors import NotAsked

__all__ = ["judge"]

_PARTS = (
    (watermarks.QUESTION, watermarks.judge_marks),
    (regions.QUESTION, regions.judge_regions),
    (attributes.COLUMNS, attributes.judge_columns),
    (attributes.EXPLAINED, attributes.judge_explained),
    (amplification.QUESTION, amplification.judge_amplification),
    (swap.QUESTION, swap.judge_swap),
)


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Six findings; those that the data do not allow say "cannot tell" and why.

    Raises:
        NotAsked: nothing is labelled, and nothing says where a volume comes from.
        AuditError: not one of them can be made.
    """
    parts: Sequence[tuple[Question, Part]] = _PARTS
    if evidence.training.labels is None:  # marks may yet tell scanners apart
        parts = (parts[0], *((question, _unlabelled) for question, _ in parts[1:]))
    return answer(parts, evidence, options, one_at_least=True)


def _unlabelled(evidence: Evidence, _: Options) -> Finding:
    raise NotAsked(f"the {evidence.training.name} volumes have no labels")
