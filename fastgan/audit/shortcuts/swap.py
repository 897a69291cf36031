"""The same latents are drawn as another class: is there a change, and is it in the body?"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.shortcuts.marks import FAINT, detached, widened
from fastgan.audit.statistics import clopper_pearson
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.descriptors import voxel_descriptors

__all__ = ["change_outside", "judge_swap"]

QUESTION = Question(
    "shortcuts", "shortcuts.swap", "Does another class change the lesion and nothing else?"
)
LATENTS = 64
"""Latents drawn as both classes."""
LARGEST_SHARE = limit("shortcuts.swap.largest_share")
"""Share of the squared change that may lie outside the bodies, on average."""
MOST_FILLED = limit("shortcuts.swap.most_filled")
_MARGIN = 2  # voxels by which bodies are widened
CONTROL_RUNS = 20
_DRAWS = 1000


def body_of(values: Floats) -> Bools:
    """[N, D, H, W] voxels of each volume's connected body; a mark apart from it is none of it."""
    filled = values > FAINT
    out: Bools = filled & ~(detached(values) > FAINT)
    return out


def change_outside(first: Floats, second: Floats) -> Floats:
    """[N] share of the squared change between pairs that lies outside both widened bodies.

    NaN where nothing changes.

    Args:
        first: [N, D, H, W] in [-1, 1].
        second: the same shape.
    """
    inside = body_of(first) | body_of(second)
    for axis in (1, 2, 3):
        for _ in range(_MARGIN):
            inside = widened(inside, axis)
    squared = np.square(first.astype(np.float64) - second)
    total = squared.sum(axis=(1, 2, 3))
    outside = (squared * ~inside).sum(axis=(1, 2, 3))
    out: Floats = np.where(total > 1e-9, outside / np.maximum(total, 1e-30), np.nan)
    return out


def judge_swap(evidence: Evidence, options: Options) -> Finding:
    """Two classes, the same latents.

    Raises:
        AuditError: no generator, fewer than two classes, or labels missing.
    """
    if evidence.draw is None:
        raise NotAsked("it is of volumes that another program generated; there is no generator")
    training = evidence.training
    labels = require_labels(training)
    low, high = (int(c) for c in (np.unique(labels)[0], np.unique(labels)[-1]))
    numbers = np.arange(LATENTS)
    first, second = (np.asarray(evidence.draw(numbers, c)) for c in (low, high))
    if first.shape != second.shape or first.ndim != 4:
        raise AuditError(f"the generator drew {first.shape} and {second.shape}, not [N, D, H, W]")
    share = change_outside(first, second)
    filled = float(np.mean(body_of(first) | body_of(second)))
    moved = _score(training.values, labels == high, second) - _score(
        training.values, labels == high, first
    )
    right = int((moved > 0).sum())
    bound = clopper_pearson(right, LATENTS)
    rng = options.rng("shortcuts/swap")
    changed = share[~np.isnan(share)]
    if not len(changed):
        mean, interval = 0.0, (0.0, 0.0)
    else:
        mean = float(changed.mean())
        drawn = rng.choice(changed, (_DRAWS, len(changed))).mean(axis=1)
        interval = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))
    # Beside it, the same share between real volumes, which differ wherever their bodies do.
    pairs = min(int((labels == low).sum()), int((labels == high).sum()), LATENTS)
    real = change_outside(
        training.values[np.flatnonzero(labels == low)[:pairs]],
        training.values[np.flatnonzero(labels == high)[:pairs]],
    )
    verdict, sentence = _said(evidence, (low, high), mean, interval, bound, right, filled)
    planted = () if options.quick else _controls(first, second, rng)
    return Finding(
        *QUESTION,
        Outcome(verdict, sentence),
        value=mean,
        value_name="share of squared change outside the widened bodies",
        interval=interval,
        floor=float(np.nanmean(real)) if len(real) and not np.isnan(real).all() else None,
        floor_name="between real volumes of the two classes",
        n_volumes=2 * LATENTS,
        n_subjects=training.n_subjects,
        power="" if options.quick else f"{planted[0].name}: {planted[0].rate:.0%}",
        controls=planted,
        tables=(
            Table(
                "Swapping the class",
                ("what", "value", "from", "to"),
                (
                    ("share of change outside", round(mean, 4), *(round(v, 4) for v in interval)),
                    ("share moved to the class", round(right / LATENTS, 3), *bound),
                    ("share of latents that change", round(len(changed) / LATENTS, 3), None, None),
                    ("share of voxels in bodies", round(filled, 3), None, None),
                ),
            ),
        ),
        methods=(
            f"{LATENTS} latents as both classes; bodies are voxels above {FAINT:g}, widened by "
            f"{_MARGIN} voxels; 95 % interval by drawing latents; the class is read by a ridge "
            "discriminant fitted to the training volumes."
        ),
        limits="Of pictures that bodies fill, every change is inside: the share says nothing then.",
    )


def _said(
    evidence: Evidence,
    classes: tuple[int, int],
    mean: float,
    interval: tuple[float, float],
    bound: tuple[float, float],
    right: int,
    filled: float,
) -> tuple[Verdict, str]:
    low, high = (evidence.classes[c] if c < len(evidence.classes) else str(c) for c in classes)
    told = f"{right} of {LATENTS} latents look more like {high} when drawn as {high} than as {low}"
    if bound[0] <= 0.5:
        return "fail", f"The class changes nothing that tells it: {told}."
    if interval[0] > LARGEST_SHARE:
        return "fail", (
            f"{mean:.0%} of the change between classes lies outside the bodies (at most "
            f"{LARGEST_SHARE:.0%} was expected): the class is written into the background, too."
        )
    if filled > MOST_FILLED:
        return "cannot tell", f"Cannot tell: bodies fill {filled:.0%} of the volumes. {told}."
    if interval[1] > LARGEST_SHARE:
        return "cannot tell", f"Cannot tell: {mean:.0%} of the change is outside, give or take."
    return "pass", (
        f"No evidence that the class changes more than the bodies: {mean:.1%} of the squared "
        f"change lies outside them, and {told}."
    )


def _score(values: Floats, positive: Bools, others: Floats) -> Floats:
    """[N] ridge discriminant of the class, fitted to training volumes, of others."""
    return discriminant_scores(
        voxel_descriptors(values), positive, voxel_descriptors(others), ridge=0.1
    )


def _controls(first: Floats, second: Floats, rng: np.random.Generator) -> tuple[Control, ...]:
    """A mark written in a corner along with the class, and the change within the bodies alone."""
    inside = body_of(first) | body_of(second)
    kept = np.where(inside, second, first)
    written = kept.copy()
    written[:, :3, :3, :3] = 1.0
    within, across = (change_outside(first, v) for v in (kept, written))
    found, alarms = 0, 0
    for _ in range(CONTROL_RUNS):
        at = rng.integers(len(first), size=len(first))
        found += int(np.nanmean(across[at]) > LARGEST_SHARE)
        alarms += int(np.nanmean(within[at]) > LARGEST_SHARE)
    return (
        controls.found("a white mark of 3^3 voxels in a corner", found, CONTROL_RUNS),
        controls.quiet(
            "the change within the bodies alone", alarms, CONTROL_RUNS, at_most=0.0, by="rate"
        ),
    )
