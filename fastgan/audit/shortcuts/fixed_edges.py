"""Does every volume of a class bear the same sharp edge at the same voxels, wherever it is?

Disease brightens the middle of a class, too, so that a difference of means there is no mark. But
its edges lie elsewhere in every patient: the step between two neighbouring voxels hardly differs in
mean between classes beside how much it varies within one. A mark that is drawn has its edge at the
same voxels in all volumes, whose step differs by several deviations.
"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, cannot_tell
from fastgan.audit.rules import limit
from fastgan.audit.statistics.group_tests import Groups
from fastgan.audit.statistics.trading import trading
from fastgan.errors import NotAsked

__all__ = ["QUESTION", "judge_fixed_edges", "largest_steps"]

QUESTION = Question(
    "shortcuts",
    "shortcuts.marks.class",
    "Do all volumes of a class bear the same sharp edge at the same place?",
)
FIXED = limit("shortcuts.edges.fixed")
BY_CHANCE = limit("shortcuts.edges.by_chance")
HEIGHT = limit("shortcuts.edges.height")
HEIGHTS = (HEIGHT / 2, HEIGHT)
"""Planted marks, in [-1, 1]; the second is decisive."""
MARK = 3
"""Voxels along each side of a planted mark."""
PERMUTATIONS, CONTROL_RUNS = 99, 60
_LEAST_DEVIATION = 0.02  # of a step, in [-1, 1]: where nothing varies any mark stands out
_CHUNK = 4096  # steps of one matrix product


def largest_steps(values: Floats, members: Bools) -> tuple[Floats, tuple[int, Integers]]:
    """How far a step between neighbours differs between members and others, at most.

    Difference of the mean steps over the deviation within the two groups.

    Args:
        values: [N, D, H, W].
        members: [R, N] one membership a row; both groups hold two volumes or more.

    Returns:
        [R] the largest over all steps, and where it is in row 0: axis, and position [3] of the
        voxel before the step.

    Cost: 4 R N F flops for F steps, three a voxel.
    """
    inside = members.astype(np.float32)
    weights = np.stack([inside / inside.sum(axis=1, keepdims=True), (1 - inside)])
    weights[1] /= weights[1].sum(axis=1, keepdims=True)
    best, where = np.zeros(len(members)), (0, np.zeros(3, np.int64))
    for axis in (1, 2, 3):
        steps = np.diff(values, axis=axis)
        flat = steps.reshape(len(values), -1)
        for start in range(0, flat.shape[1], _CHUNK):
            part = flat[:, start : start + _CHUNK]
            mean = weights @ part
            spread = np.maximum(weights @ np.square(part) - np.square(mean), 0.0).mean(axis=0)
            size = np.abs(mean[0] - mean[1]) / np.maximum(np.sqrt(spread), _LEAST_DEVIATION)
            if float(size[0].max()) > best[0]:
                at = np.unravel_index(start + int(size[0].argmax()), steps.shape[1:])
                where = (axis - 1, np.array(at))
            np.maximum(best, size.max(axis=1), out=best)
    return best, where


def judge_fixed_edges(evidence: Evidence, options: Options) -> Finding:
    """Steps between neighbouring voxels anywhere in the training volumes, class against class.

    Raises:
        NotAsked: masks, whose marks are what is drawn apart from the body; no labels.
        AuditError: too few subjects.
    """
    if evidence.modality == "mask":
        raise NotAsked("inside the body of a mask nothing is drawn; marks apart from it are above")
    cohort = evidence.training
    labels = require_labels(cohort)
    rng = options.rng("shortcuts/edges")
    trade = trading(labels, cohort.subjects, None, rng, "the label")
    cohort, labels = cohort.subset(trade.volumes), labels[trade.volumes]
    groups = Groups(labels, cohort.subjects, None, rng, PERMUTATIONS)
    found = [largest_steps(cohort.values, groups.codes == k) for k in groups.contrasts]
    size = float(max(rows[0] for rows, _ in found))
    (axis, place) = max(found, key=lambda each: each[0][0])[1]
    chance = float(np.quantile(np.max([rows[1:] for rows, _ in found], axis=0), 0.95))
    planted = () if options.quick else _controls(cohort.values, labels, chance, rng)
    told = (
        f"steps between neighbouring voxels differ between the classes by at most {size:.1f} "
        f"deviations ({len(cohort)} volumes of {cohort.n_subjects} subjects{trade.note})"
    )
    if chance > BY_CHANCE:
        outcome = cannot_tell(
            f"with {cohort.n_subjects} subjects steps differ by {chance:.1f} deviations by chance "
            f"alone, at most {BY_CHANCE:g} would do",
            f"about {cohort.n_subjects * (chance / BY_CHANCE) ** 2:.0f} subjects are needed",
        )
    elif size >= FIXED:
        spot = ", ".join(f"{x:.0f}" for x in (place + 0.5) * np.asarray(evidence.spacing))
        outcome = Outcome(
            "fail",
            f"A sharp edge at the same place ({spot} mm from the first corner, across "
            f"{'DHW'[axis]}) tells the class: the step there differs by {size:.1f} deviations. "
            "Disease has no edge so fixed; a network may read this mark instead.",
        )
    else:
        outcome = Outcome("pass", f"No evidence of an edge that marks a class: {told}.")
    return Finding(
        *QUESTION,
        outcome,
        value=size,
        value_name="largest difference of a step's mean, deviations within a class",
        floor=chance,
        floor_name="95 % quantile of the same with labels permuted among subjects",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power="; ".join(f"{c.name}: {c.rate:.0%}" for c in planted if c.expected == "found"),
        controls=planted,
        tables=(
            Table(
                "Fixed edges",
                ("what", "deviations"),
                (
                    ("largest difference of a step", round(size, 2)),
                    ("by chance, 95 % quantile", round(chance, 2)),
                    ("from which an edge is fixed", FIXED),
                ),
            ),
        ),
        methods=(
            "Differences of neighbours along each axis, mean of a class less that of the others "
            "over the deviation within both, largest over all voxels; chance by "
            f"{PERMUTATIONS} permutations of whole subjects. {trade.said(PERMUTATIONS)}"
        ),
        limits=(
            "A soft mark, one that moves, and one on few volumes of the class are not seen. Where "
            "all lesions have one form at one place their edges would be found, too."
        ),
    )


def _controls(
    values: Floats, labels: Integers, chance: float, rng: np.random.Generator
) -> tuple[Control, ...]:
    """Marks at random places of all volumes of a class; and labels permuted.

    Only steps about a mark change, so those alone are measured again.
    """
    out = []
    shape = values.shape[1:]
    for height in HEIGHTS:
        hits = 0
        for _ in range(CONTROL_RUNS):
            start = [int(rng.integers(0, max(n - MARK, 0) + 1)) for n in shape]
            box = tuple(
                slice(max(s - 1, 0), min(s + MARK + 1, n))
                for s, n in zip(start, shape, strict=True)
            )
            bears = labels == rng.choice(np.unique(labels))
            marked = values[(slice(None), *box)].copy()
            first = [s - b.start for s, b in zip(start, box, strict=True)]
            at = (bears, *(slice(s, s + MARK) for s in first))
            marked[at] = np.minimum(marked[at] + np.float32(height), 1.0)
            hits += int(largest_steps(marked, bears[None])[0][0] >= FIXED)
        name = (
            f"{MARK}^3 voxels anywhere, brighter by {height / 2:.0%} of the range in all volumes "
            "of a class"
        )
        out.append(controls.found(name, hits, CONTROL_RUNS, decisive=height == HEIGHTS[-1]))
    return tuple(out)
