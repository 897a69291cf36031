"""The statistics of the judgements take the subject as unit, and no p-value of theirs is ever 0."""

from __future__ import annotations

from fastgan.audit.statistics.intervals import (
    bootstrap_interval,
    clopper_pearson,
    subject_bootstrap,
    two_sample_interval,
)
from fastgan.audit.statistics.permutation import Exchange, Freedom, holm, permutation_p
from fastgan.audit.statistics.roc import area_under_curve, auc, auc_interval

__all__ = [
    "Exchange",
    "Freedom",
    "area_under_curve",
    "auc",
    "auc_interval",
    "bootstrap_interval",
    "clopper_pearson",
    "holm",
    "permutation_p",
    "subject_bootstrap",
    "two_sample_interval",
]
