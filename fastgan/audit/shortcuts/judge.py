"""Seven questions ask for shortcuts to the label, among them what generation adds to them."""

from __future__ import annotations

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Finding, answer
from fastgan.audit.shortcuts import (
    amplification,
    attributes,
    fixed_edges,
    regions,
    swap,
    watermarks,
)

__all__ = ["judge"]

_PARTS = (
    (watermarks.QUESTION, watermarks.judge_marks),
    (fixed_edges.QUESTION, fixed_edges.judge_fixed_edges),
    (regions.QUESTION, regions.judge_regions),
    (attributes.COLUMNS, attributes.judge_columns),
    (attributes.EXPLAINED, attributes.judge_explained),
    (amplification.QUESTION, amplification.judge_amplification),
    (swap.QUESTION, swap.judge_swap),
)


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Seven findings; those that the data do not allow say "cannot tell" and why.

    Raises:
        AuditError: not one of them can be made.
    """
    return answer(_PARTS, evidence, options, one_at_least=True)
