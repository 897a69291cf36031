"""Is a shortcut stronger in generated volumes than in real ones?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.rules import limit, whole
from fastgan.audit.shortcuts.regions import regions, varied_columns
from fastgan.audit.statistics import auc, auc_interval, permutation_p
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.audit.statistics.group_tests import Groups
from fastgan.errors import AuditError
from fastgan.measures.descriptors import size_of

__all__ = ["contrast_rows", "judge_amplification"]

QUESTION = Question(
    "shortcuts",
    "shortcuts.amplification",
    "Does the label show more in generated than in real volumes where it should not?",
)
SHIFT = limit("shortcuts.amplification.shift")
"""Planted: scores of generated volumes of one class higher, in standard deviations."""
CONTROL_RUNS = 100
LEAST_LABELLED = whole("shortcuts.amplification.least")
"""Generated volumes that each class needs."""


def contrast_rows(groups: Groups, scores: Floats, labels: Integers) -> Floats:
    """How much better scores tell class 1 among the second group than among the first.

    AUC of the second group less that of the first over its standard error, so that the permutation
    test holds for equal areas, too, where the scores differ otherwise.

    Args:
        groups: real and generated, exchanged within labels.
        scores: [K, N] of K shortcuts.
        labels: [N] 0 or 1.

    Returns:
        [K, 1 + B].

    Cost: 4 (1 + B) P Q flops a shortcut for P volumes of class 1 and Q of class 0.

    Source: DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more
    correlated receiver operating characteristic curves" (the error); Chung and Romano 2013, "Exact
    and asymptotically robust permutation tests" (why it is studentised).
    """
    one, zero = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    made = (groups.codes == 1).astype(np.float32)
    out = np.empty((len(scores), len(made)))
    for k, score in enumerate(scores):
        high, low = score[one][:, None], score[zero]
        wins = ((high > low) + 0.5 * (high == low)).astype(np.float32)
        sides = []
        for member in (made, 1 - made):
            p, q = member[:, one], member[:, zero]
            n_p, n_q = p.sum(axis=1), q.sum(axis=1)
            of_p = (q @ wins.T) / n_q[:, None]  # placement of each of class 1
            of_q = (p @ wins) / n_p[:, None]
            area = (p * of_p).sum(axis=1) / n_p
            spread_p = (p * np.square(of_p - area[:, None])).sum(axis=1) / np.maximum(n_p - 1, 1)
            spread_q = (q * np.square(of_q - area[:, None])).sum(axis=1) / np.maximum(n_q - 1, 1)
            sides.append((area, spread_p / n_p + spread_q / n_q))
        (ours, error), (theirs, other) = sides
        # Where both sides are told apart without a mistake there is no spread: a small floor.
        out[k] = (ours - theirs) / np.sqrt(np.maximum(error + other, 1e-6))
    return out


@dataclass(frozen=True)
class _Scores:
    """Of real held-out, then generated volumes."""

    names: list[str]
    values: Floats  # [K, N]
    labels: Integers  # [N] 0 or 1
    owners: Texts  # [N]
    generated: Integers  # [N] 0 or 1


def _scores(evidence: Evidence) -> _Scores:
    """Scores by fits to the training volumes, which neither side took part in."""
    generated = evidence.require_generated()
    training, holdout = evidence.training, evidence.holdout
    if generated.labels is None:
        raise AuditError("the generated volumes have no labels")
    labels, held = require_labels(training), require_labels(holdout)
    present = np.unique(labels)
    target = present[-1]  # of more than two classes: the last against the rest
    truth = np.r_[held == target, generated.labels == target].astype(np.int64)
    made = np.r_[np.zeros(len(holdout), np.int64), np.ones(len(generated), np.int64)]
    for side in (0, 1):
        least = min(int((truth[made == side] == c).sum()) for c in (0, 1))
        if least < LEAST_LABELLED:
            raise AuditError(f"needs {LEAST_LABELLED} volumes of each class a side, got {least}")
    both = np.concatenate([holdout.values, generated.values])
    names, values = [], []
    for region in regions(evidence):
        fitted = region.describe(training.values)
        kept = varied_columns(fitted)
        if not kept.any():
            continue
        names.append(region.name)
        others = region.describe(both)[:, kept]
        values.append(discriminant_scores(fitted[:, kept], labels == target, others, ridge=0.5))
    if evidence.modality == "mask":
        names.append("size")
        direction = np.sign(auc(size_of(training.values), labels == target) - 0.5)
        values.append(direction * size_of(both))
    if not names:
        raise AuditError("corners, border and background do not vary between volumes")
    owners = np.r_[holdout.subjects, [f"generated {i}" for i in range(len(generated))]]
    return _Scores(names, np.stack(values), truth, owners, made)


def judge_amplification(evidence: Evidence, options: Options) -> Finding:
    """Corners, border, background, and of masks the size: AUC among generated less held-out.

    Raises:
        AuditError: no generated volumes, labels missing or too few.
    """
    scores = _scores(evidence)
    rng = options.rng("shortcuts/amplification")
    count = options.permutations
    runs = 0 if options.quick else CONTROL_RUNS
    groups = Groups(scores.generated, scores.owners, scores.labels, rng, count + runs)
    rows = contrast_rows(groups, scores.values, scores.labels)
    maxima = rows.max(axis=0)
    null = slice(1, 1 + count)
    p = permutation_p(float(maxima[0]), maxima[null])
    table, gaps = [], []
    for name, values, row in zip(scores.names, scores.values, rows, strict=True):
        line: list[str | float] = [name]
        areas = []
        for side in (0, 1):
            at = scores.generated == side
            positive = scores.labels[at] == 1
            areas.append(auc(values[at], positive))
            low, high = auc_interval(values[at], positive, scores.owners[at], rng, 300)
            line += [round(areas[-1], 3), f"{low:.3f} to {high:.3f}"]
        gaps.append(areas[1] - areas[0])
        table.append((*line, round(permutation_p(float(row[0]), maxima[null]), 4)))
    planted: tuple[Control, ...] = ()
    if runs:
        found = _planted(groups, scores, count)
        quiet = [permutation_p(float(m), maxima[null]) for m in maxima[1 + count :]]
        said = f"a score {SHIFT:g} sd higher for generated volumes of one class"
        planted = (
            controls.found(said, *hits(found, power_level(options.alpha))),
            controls.quiet(
                "real and generated exchanged within classes",
                *hits(quiet, options.alpha),
                at_most=options.alpha,
            ),
        )
    best = int(rows[:, 0].argmax())
    telling = [str(r[0]) for r in table if float(r[-1]) <= options.alpha]
    name = scores.names[best]
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence that the label can be told better from {', '.join(scores.names)} among "
            f"{int(scores.generated.sum())} generated than among "
            f"{int((scores.generated == 0).sum())} held-out volumes.",
        ),
        Outcome(
            "warn" if evidence.modality == "mask" else "fail",
            "The label shows more in generated than in held-out volumes: "
            f"{', '.join(telling) or name} (AUC {gaps[best]:+.2f}). "
            "A network trained on them leans on it more than it should.",
        ),
        p=p,
        value=gaps[best],
        value_name=f"AUC of the {name}, generated less held-out",
        floor=0.0,
        floor_name="held-out against held-out",
        n_volumes=len(scores.labels),
        n_subjects=evidence.holdout.n_subjects,
        power="" if not runs else f"{planted[0].name}: {planted[0].rate:.0%}",
        controls=planted,
        tables=(
            Table(
                "How well the label is told",
                ("by", "held-out AUC", "95 %", "generated AUC", "95 %", "adjusted p"),
                tuple(table),
                "Scores by ridge discriminants fitted to training volumes; size by itself.",
            ),
        ),
        methods=(
            "Difference of AUCs over its standard error, largest over the scores; real subjects "
            f"and generated volumes exchanged within classes {count} times. Planted controls must "
            f"reach p <= {power_level(options.alpha):g}."
        ),
        limits=(
            "A generator whose classes are too far apart is seen here, one without classes not. Of "
            "masks, border and background tell the size of the body."
        ),
    )


def _planted(groups: Groups, scores: _Scores, count: int) -> list[float]:
    """p-values of runs in which the first score of one side's class 1 is higher."""
    out = []
    first = 1 + count
    few = np.arange(1, 1 + min(count, 499))
    member = groups.codes
    for row in range(first, len(member)):
        part = groups.rows(np.r_[row, few])
        values = scores.values.astype(np.float64).copy()
        raised = (member[row] == 1) & (scores.labels == 1)
        values[0] += SHIFT * values[0].std() * raised
        largest = contrast_rows(part, values, scores.labels).max(axis=0)
        out.append(permutation_p(float(largest[0]), largest[1:]))
    return out
