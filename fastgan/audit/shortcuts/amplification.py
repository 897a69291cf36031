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
from fastgan.audit.shortcuts.places import corner_steps, regions, varied_columns
from fastgan.audit.statistics import auc, auc_interval, permutation_p
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.audit.statistics.group_tests import Groups
from fastgan.audit.statistics.trading import Trading, trading
from fastgan.errors import AuditError
from fastgan.measures.descriptors import size_of

__all__ = ["contrast_rows", "judge_amplification"]

QUESTION = Question(
    "shortcuts",
    "shortcuts.amplification",
    "Does the label show more in generated than in real volumes where it should not?",
)
HEIGHT = limit("shortcuts.amplification.height")
MARK = 3
"""Voxels along each side of a planted mark."""
CORNERS = 4
"""Corners in which marks are planted, a quarter of the runs each."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 100, 499
LEAST_LABELLED = whole("shortcuts.amplification.least")
_Named = dict[str, Floats]
OURS, THEIRS = "as patients show it", "as generated volumes show it"
"""Names of the two directions: what a score was fitted to."""


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
class _Sides:
    """Held-out volumes, then generated ones that no score is fitted to."""

    values: Floats
    """[N, D, H, W]"""
    labels: Integers
    """[N] 1 for the last class, 0 for the others."""
    owners: Texts
    """[N] who each is of; generated volumes are each of their own."""
    generated: Integers
    """[N] 0 or 1."""
    fitted: Floats
    """[M, D, H, W] the other half of the generated volumes."""
    fitted_labels: Integers
    """[M]"""
    trade: Trading

    @property
    def held_out(self) -> int:
        """How many of the volumes are."""
        return int((self.generated == 0).sum())


def _sides(evidence: Evidence, rng: np.random.Generator) -> _Sides:
    generated, holdout = evidence.require_generated(), evidence.holdout
    if generated.labels is None:
        raise AuditError("the generated volumes have no labels")
    held = require_labels(holdout)
    target = np.unique(require_labels(evidence.training))[-1]
    labels = (generated.labels == target).astype(np.int64)
    # A half of each class: what a score was fitted to cannot be exchanged with patients.
    half = np.zeros(len(generated), bool)
    for c in (0, 1):
        own = rng.permutation(np.flatnonzero(labels == c))
        half[own[: len(own) // 2]] = True
    side = np.r_[np.zeros(len(holdout), np.int64), np.ones(int((~half).sum()), np.int64)]
    truth = np.r_[(held == target).astype(np.int64), labels[~half]]
    owners = np.r_[holdout.subjects, [f"generated {i}" for i in np.flatnonzero(~half)]]
    values = np.concatenate([holdout.values, generated.values[~half]])
    trade = trading(side, owners, truth, rng, "places with a generated volume")
    at = trade.volumes
    least = min(int((truth[at][side[at] == k] == c).sum()) for k in (0, 1) for c in (0, 1))
    if least < LEAST_LABELLED:
        raise AuditError(
            f"needs {LEAST_LABELLED} held-out subjects of each class and {2 * LEAST_LABELLED} "
            f"generated volumes, half of which scores are fitted to; got {least} on a side"
        )
    return _Sides(
        values[at],
        truth[at],
        owners[at],
        side[at],
        generated.values[half],
        labels[half],
        trade,
    )


def _scores(evidence: Evidence, fitted: Floats, labels: Integers, volumes: Floats) -> _Named:
    """Scores [N] of volumes by fits to other volumes, a row a region and direction.

    What only the generator does shows in no fit to patients, and what only patients have in no fit
    to generated volumes, so each region is read both ways.
    """
    training = evidence.training
    known = require_labels(training)
    out: _Named = {}
    around = [r for r in regions(evidence) if r.name != "corners"]
    for region in (*corner_steps(volumes.shape[1:]), *around):
        described = region.describe(volumes)
        for way, shown, truth in (
            (OURS, training.values, known == np.unique(known)[-1]),
            (THEIRS, fitted, labels == 1),
        ):
            reference = region.describe(shown)
            kept = varied_columns(reference)
            if kept.any():
                out[f"{region.name} {way}"] = discriminant_scores(
                    reference[:, kept], truth, described[:, kept], ridge=0.5
                )
    if evidence.modality == "mask":
        direction = np.sign(auc(size_of(training.values), known == np.unique(known)[-1]) - 0.5)
        out["size"] = direction * size_of(volumes)
    return out


def judge_amplification(evidence: Evidence, options: Options) -> Finding:
    """Corners, border, background, and of masks the size: AUC among generated less held-out.

    Raises:
        AuditError: no generated volumes, labels missing or too few.
    """
    rng = options.rng("shortcuts/amplification")
    sides = _sides(evidence, rng)
    named = _scores(evidence, sides.fitted, sides.fitted_labels, sides.values)
    if not named:
        raise AuditError("corners, border and background do not vary between volumes")
    scores = np.stack(list(named.values()))
    count = options.permutations
    runs = 0 if options.quick else CONTROL_RUNS
    groups = Groups(sides.generated, sides.owners, sides.labels, rng, count + runs)
    rows = contrast_rows(groups, scores, sides.labels)
    maxima = rows.max(axis=0)
    null = slice(1, 1 + count)
    table, gaps = _table(named, sides, rows, maxima[null], rng)
    planted = _controls(evidence, sides, groups, maxima, options, rng) if runs else ()
    best = int(rows[:, 0].argmax())
    telling = [str(r[0]) for r in table.rows if float(r[-1] or 0.0) <= options.alpha]
    name = list(named)[best]
    read = dict.fromkeys(n.split(" as ")[0] for n in named)
    places = ", ".join(dict.fromkeys("corners" if n.startswith("corner") else n for n in read))
    made, held = len(sides.values) - sides.held_out, sides.held_out
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence that the label can be told better from {places} among {made} generated "
            f"than among {held} held-out volumes{sides.trade.note}.",
        ),
        Outcome(
            "warn" if evidence.modality == "mask" else "fail",
            "The label shows more in generated than in held-out volumes: "
            f"{_some(telling) or name} (AUC {gaps[best]:+.2f}). "
            "A network trained on them leans on it more than it should.",
        ),
        p=permutation_p(float(maxima[0]), maxima[null]),
        value=gaps[best],
        value_name=f"AUC of the {name}, generated less held-out",
        floor=0.0,
        floor_name="held-out against held-out",
        n_volumes=len(sides.labels),
        n_subjects=len(np.unique(sides.owners[sides.generated == 0])),
        power="" if not runs else f"{planted[0].name}: {planted[0].rate:.0%}",
        controls=planted,
        tables=(table,),
        methods=(
            "Difference of AUCs over its standard error, largest over the scores; held-out "
            f"subjects and generated volumes exchanged within classes {count} times. Scores are "
            "ridge discriminants on block means and, of corners, steps between neighbouring "
            "voxels; fitted to training volumes and again to one half of the "
            f"generated ones, whose other half is scored. {sides.trade.said(count)} Planted "
            f"controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits=(
            "A generator whose classes are too far apart there is seen here, one without classes "
            "not, nor what lies in the middle. Of masks, border and background tell the size of "
            "the body."
        ),
    )


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _table(
    named: _Named, sides: _Sides, rows: Floats, null: Floats, rng: np.random.Generator
) -> tuple[Table, list[float]]:
    """AUCs of both sides, and generated less held-out of each score."""
    table, gaps = [], []
    for (name, values), row in zip(named.items(), rows, strict=True):
        line: list[str | float] = [name]
        areas = []
        for side in (0, 1):
            at = sides.generated == side
            positive = sides.labels[at] == 1
            areas.append(auc(values[at], positive))
            low, high = auc_interval(values[at], positive, sides.owners[at], rng, 300)
            line += [round(areas[-1], 3), f"{low:.3f} to {high:.3f}"]
        gaps.append(areas[1] - areas[0])
        table.append((*line, round(permutation_p(float(row[0]), null), 4)))
    shown = Table(
        "How well the label is told",
        ("by", "held-out AUC", "95 %", "generated AUC", "95 %", "adjusted p"),
        tuple(table),
        f"Scores by ridge discriminants: '{OURS}' fitted to training volumes, '{THEIRS}' to the "
        "other half of the generated ones; size by itself.",
    )
    return shown, gaps


def _controls(
    evidence: Evidence,
    sides: _Sides,
    groups: Groups,
    maxima: Floats,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Control, ...]:
    """Voxels of a corner brighter in class 1 of the generator, and nothing planted.

    The last rows of the groups say which volumes are the generator's in each run; the half that
    scores are fitted to always is.
    """
    first = len(maxima) - CONTROL_RUNS
    found: list[float] = []
    for k, corner in enumerate(rng.permutation(8)[:CORNERS]):
        at = tuple(
            slice(n - MARK - k % 2, n - k % 2) if corner >> axis & 1 else slice(k % 2, MARK + k % 2)
            for axis, n in enumerate(sides.values.shape[1:])
        )
        fitted, marked = _marked(sides.fitted, at), _marked(sides.values, at)
        own = np.where(sides.fitted_labels[:, None, None, None] == 1, fitted, sides.fitted)
        plain, changed = (
            _scores(evidence, own, sides.fitted_labels, v) for v in (sides.values, marked)
        )
        for row in range(first + k, len(maxima), CORNERS):
            bears = (groups.codes[row] == 1) & (sides.labels == 1)
            scores = np.stack([np.where(bears, changed[n], plain[n]) for n in plain])
            part = groups.rows(np.r_[row, 1 : 1 + min(CONTROL_PERMUTATIONS, first - 1)])
            largest = contrast_rows(part, scores, sides.labels).max(axis=0)
            found.append(permutation_p(float(largest[0]), largest[1:]))
    quiet = [permutation_p(float(m), maxima[1:first]) for m in maxima[first:]]
    said = (
        f"{MARK}^3 voxels in a corner of the generator's class brighter by {HEIGHT / 2:.0%} of "
        "the range"
    )
    return (
        controls.found(said, *hits(found, power_level(options.alpha))),
        controls.quiet(
            "held-out and generated volumes exchanged within classes",
            *hits(quiet, options.alpha),
            at_most=options.alpha,
        ),
    )


def _marked(values: Floats, at: tuple[slice, ...]) -> Floats:
    out = values.copy()
    place = (slice(None), *at)
    out[place] = np.minimum(out[place] + np.float32(HEIGHT), 1.0)
    return out
