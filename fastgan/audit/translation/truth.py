"""Translations are held against an aligned truth, beside what doing nothing scores."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Texts
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Finding, Outcome, Question, Table
from fastgan.audit.statistics import bootstrap_interval
from fastgan.errors import AuditError

__all__ = ["judge_truth"]

QUESTION = Question(
    "translation",
    "translation.truth",
    "Is a translation nearer to the aligned truth than doing nothing?",
)
DRAWS = 1000
LEVELS = 64  # of the intensities that the paired lookup tells apart


def judge_truth(evidence: Evidence, truth: Cohort, made: Floats, options: Options) -> Finding:
    """Finding translation.truth.

    Raises:
        AuditError: a truth of another shape than the translations `made` [N, D, H, W].
    """
    holdout = evidence.holdout
    if truth.values.shape != made.shape:
        raise AuditError(
            f"translation: the truth is {truth.values.shape}, the translations {made.shape}"
        )
    level = np.median(evidence.target.values if evidence.target is not None else truth.values)
    candidates = {
        "translation": made,
        "identity": holdout.values,
        "constant": np.full_like(made, level),
        "paired lookup of intensities": _lookup(holdout.values, truth.values),
    }
    errors = {name: np.abs(v - truth.values).mean((1, 2, 3)) for name, v in candidates.items()}
    best = min(("identity", "constant"), key=lambda name: float(errors[name].mean()))
    gap = errors["translation"] - errors[best]
    rng = options.rng("translation/truth")
    low, high = _interval(gap, holdout.subjects, rng)
    error = float(errors["translation"].mean())
    if high < 0.0:
        outcome = Outcome(
            "pass",
            f"No evidence of a translation that misses the truth altogether: mean absolute error "
            f"{error:.3f}, {best} has {errors[best].mean():.3f} "
            f"(difference {low:+.3f} to {high:+.3f}).",
        )
    elif low > 0.0:
        outcome = Outcome(
            "fail",
            f"Translations are farther from the truth than {_a(best)}: mean absolute error "
            f"{error:.3f} against {errors[best].mean():.3f}.",
        )
    else:
        outcome = Outcome(
            "cannot tell",
            f"Cannot tell whether translations are nearer to the truth than {_a(best)}: mean "
            f"absolute error {error:.3f} against {errors[best].mean():.3f} "
            f"(difference {low:+.3f} to {high:+.3f}). Next: more patients with an aligned truth.",
        )
    rows = []
    for name, values in candidates.items():
        ends = _interval(errors[name], holdout.subjects, rng)
        rows.append(
            (
                name,
                round(_correlation(values, truth.values), 3),
                round(float(errors[name].mean()), 4),
                f"{ends[0]:.4f} to {ends[1]:.4f}",
            )
        )
    return Finding(
        *QUESTION,
        outcome,
        value=error,
        value_name="mean absolute error (of a range of 2)",
        interval=_interval(errors["translation"], holdout.subjects, rng),
        floor=float(errors["paired lookup of intensities"].mean()),
        floor_name="the best function of intensity alone, fitted to the truth itself",
        n_volumes=len(made),
        n_subjects=holdout.n_subjects,
        by_construction="the interval of the difference says what could be told",
        tables=(
            Table(
                "Against the aligned truth",
                ("", "correlation", "mean absolute error", "95 %"),
                tuple(rows),
                note="Constant: the median of the target domain. Lookup: a ceiling, no method.",
            ),
        ),
        methods="Voxel by voxel; intervals by drawing subjects with replacement.",
        limits="Better than doing nothing is the least to ask, not proof of use.",
    )


def _lookup(source: Floats, truth: Floats) -> Floats:
    """The mean of the truth at each level of the source's intensity."""
    level = np.clip(((source + 1.0) * (LEVELS / 2)).astype(np.int64), 0, LEVELS - 1)
    total = np.bincount(level.ravel(), truth.ravel(), LEVELS)
    table = total / np.maximum(np.bincount(level.ravel(), minlength=LEVELS), 1)
    found: Floats = table[level]
    return found


def _correlation(a: Floats, b: Floats) -> float:
    """Mean over volumes; NaN if any is constant."""
    flat = [(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    if any(x.min() == x.max() or y.min() == y.max() for x, y in flat):
        return float("nan")
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in flat]))


def _interval(values: Floats, subjects: Texts, rng: np.random.Generator) -> tuple[float, float]:
    return bootstrap_interval(lambda drawn: float(values[drawn].mean()), subjects, rng, DRAWS)


def _a(baseline: str) -> str:
    return "the source itself" if baseline == "identity" else "one constant"
