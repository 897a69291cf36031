"""How like patients, and how varied, is the generated set? Context for the other judgements.

Distances between sets depend on the features and on the number of volumes, so each stands beside
the same distance between patients and patients. They say nothing of single volumes, nor of whether
a set may be used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import LEAST_TO_FIT, Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, answer
from fastgan.audit.quality.blank import blank_volumes
from fastgan.audit.quality.diversity import judge_diversity
from fastgan.audit.quality.feature_distances import (
    KernelDistance,
    coverage,
    frechet_distance,
)
from fastgan.audit.quality.features import PyramidFeatures
from fastgan.audit.rules import limit
from fastgan.audit.statistics import subject_bootstrap
from fastgan.audit.statistics.discriminant import standardised
from fastgan.errors import AuditError

__all__ = ["judge"]

DISTANCE = Question("quality", "quality.distance", "Is the generated set like patients?")
FAR = 5.0
"""Deviations as which larger ones count: the kernel is cubic, and one volume would decide."""
_DRAWS = 500
_FLOORS = 100


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Blank volumes, distance to patients, and diversity.

    Args:
        evidence: training, held-out and generated volumes. The latter two questions need 20
            volumes of as many subjects of each kind, and features that vary.
        options: seed and whether controls are left out.

    Raises:
        AuditError: no generated volumes.

    Cost: one pass of the features; kernels between all pairs of volumes, 500 resamplings of them.
    """
    blank = blank_volumes(evidence.require_generated())
    return [blank, *answer([(DISTANCE, _compared)], evidence, options)]


def _compared(evidence: Evidence, options: Options) -> list[Finding]:
    made = evidence.require_generated()
    for cohort in (evidence.training, evidence.holdout, made):
        if min(len(cohort), cohort.n_subjects) < LEAST_TO_FIT:
            raise AuditError(
                f"needs at least {LEAST_TO_FIT} {cohort.name} volumes of as many subjects, got "
                f"{len(cohort)} of {cohort.n_subjects}"
            )
    chosen = PyramidFeatures(evidence.modality, evidence.spacing)
    raw = chosen(evidence.training.values)
    compared = (raw, chosen(evidence.holdout.values), chosen(made.values))
    ours, held, drawn = standardised(raw, *compared, limit=FAR)
    if not ours.shape[1]:
        raise AuditError("no feature varies over the training volumes")
    about = f"Features: {chosen.name} ({ours.shape[1]} of {raw.shape[1]} vary), {chosen.digest}."
    return [
        _distance(evidence, options, chosen, (raw, ours, held, drawn), about),
        judge_diversity(evidence, options, held, drawn, about),
    ]


def _distance(
    evidence: Evidence,
    options: Options,
    chosen: PyramidFeatures,
    sets: tuple[Floats, Floats, Floats, Floats],
    about: str,
) -> Finding:
    raw, ours, held, drawn = sets
    training, holdout, made = evidence.training, evidence.holdout, evidence.require_generated()
    rng = options.rng("quality/kernel")
    between = KernelDistance(drawn, held, made.subjects, holdout.subjects)
    value = between.value()
    low, high = _interval(between, value, made.subjects, holdout.subjects, rng, _DRAWS)
    floors = _floors(training, holdout, ours, held, len(made), options)
    kernel_floor = float(np.quantile(floors["kernel"], limit("quality.distance.floor")))
    compared = (
        f"the kernel distance to held-out patients is {value:.3g} [{low:.3g}, {high:.3g}], that of "
        f"as many training volumes up to {kernel_floor:.3g}"
    )
    if low > kernel_floor:
        outcome = Outcome("warn", f"The generated set differs from patients: {compared}.")
    else:
        outcome = Outcome("pass", f"No evidence of a difference from patients found: {compared}.")
    planted: tuple[Control, ...] = ()
    if not options.quick:
        planted = (_smoothed_control(evidence, options, chosen, raw, held, kernel_floor),)
    return Finding(
        *DISTANCE,
        accepted=outcome,
        value=value,
        value_name="kernel distance, generated to held-out (squared, in the kernel's space)",
        interval=(low, high),
        floor=kernel_floor,
        floor_name="97.5 % quantile of training subjects, as many volumes, to held-out",
        n_volumes=len(made) + len(holdout),
        n_subjects=holdout.n_subjects,
        power="; ".join(f"{c.name}: seen in {c.rate:.0%} of {c.runs} runs" for c in planted),
        controls=planted,
        tables=(_table(held, drawn, value, (low, high), floors),),
        methods=(
            f"{about} Standardised by the training volumes. Kernel distance: unbiased, kernel "
            f"(x y / F + 1)^3, pairs of one subject left out, {_DRAWS} bootstrap samples of "
            "subjects on both sides. Floors: random training subjects with as many volumes as were "
            "generated, or as there are."
        ),
        limits=(
            "Context, not a licence: a set of copies is as like patients as can be. What the "
            "features do not see does not count. Compare numbers only with floors of one report."
        ),
    )


def _interval(
    between: KernelDistance,
    value: float,
    subjects: Texts,
    holdout: Texts,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float, float]:
    """95 % interval of a kernel distance, by bootstrap of subjects on both sides."""
    drawn = between.resampled(
        subject_bootstrap(subjects, rng, draws), subject_bootstrap(holdout, rng, draws)
    )
    # A bootstrap of squared distances is shifted by their noise; its spread is not.
    low, high = value + np.quantile(drawn, [0.025, 0.975]) - drawn.mean()
    return float(low), float(high)


def _floors(
    training: Cohort, holdout: Cohort, ours: Floats, held: Floats, count: int, options: Options
) -> dict[str, Floats]:
    """Each measure between random training subjects and held-out volumes [R]."""
    rng = options.rng("quality/floor")
    kernel = KernelDistance(ours, held, training.subjects, holdout.subjects)
    floors: dict[str, list[float]] = {"kernel": [], "frechet": []}
    names = ("precision", "recall", "density", "coverage")
    for run, rows in enumerate(_subsets(training.subjects, count, rng, _FLOORS)):
        floors["kernel"].append(kernel.value(np.bincount(rows, minlength=len(ours))))
        if run < _FLOORS // 5:  # dearer, and they decide nothing
            floors["frechet"].append(frechet_distance(ours[rows], held))
            found = coverage(held, ours[rows])
            for name in names:
                floors.setdefault(name, []).append(getattr(found, name))
    return {name: np.array(values) for name, values in floors.items()}


def _subsets(
    subjects: Texts, count: int, rng: np.random.Generator, runs: int
) -> Iterator[Integers]:
    """Positions of about `count` volumes of whole random subjects.

    Half of all at the most: two samples of nearly all subjects are one sample.
    """
    known, who, sizes = np.unique(subjects, return_inverse=True, return_counts=True)
    count = min(count, len(subjects) // 2)
    for _ in range(runs):
        order = rng.permutation(len(known))
        taken = order[: max(2, int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1)]
        yield np.flatnonzero(np.isin(who, taken))


def _smoothed_control(
    evidence: Evidence,
    options: Options,
    chosen: PyramidFeatures,
    raw: Floats,
    held: Floats,
    floor: float,
) -> Control:
    """Training volumes, smoothed, pose as generated: further from patients than patients are?"""
    rng = options.rng("quality/smoothed")
    training, holdout = evidence.training, evidence.holdout
    batch = torch.from_numpy(np.asarray(training.values, np.float32))[:, None]
    for _ in range(2):
        batch = F.avg_pool3d(F.pad(batch, (1,) * 6, mode="replicate"), 3, stride=1)
    compared = (chosen(batch[:, 0].numpy()), chosen(holdout.values))
    smooth, patients = standardised(raw, *compared, limit=FAR)
    count = len(evidence.require_generated())
    runs, seen = min(options.planted, _FLOORS // 2), 0
    for rows in _subsets(training.subjects, count, rng, runs):
        posing = training.subjects[rows]
        between = KernelDistance(smooth[rows], patients, posing, holdout.subjects)
        low, _ = _interval(between, between.value(), posing, holdout.subjects, rng, _FLOORS)
        seen += low > floor
    name = "training volumes smoothed over 5 voxels, posing as generated"
    return controls.found(name, seen, runs, by="lower bound")


def _table(
    held: Floats,
    drawn: Floats,
    value: float,
    interval: tuple[float, float],
    floors: dict[str, Floats],
) -> Table:
    found = coverage(held, drawn)
    measured = {
        "kernel": ("kernel distance", value),
        "frechet": ("Frechet distance", frechet_distance(drawn, held)),
        "precision": ("precision", found.precision),
        "recall": ("recall", found.recall),
        "density": ("density", found.density),
        "coverage": ("coverage", found.coverage),
    }
    rows = []
    for key, (name, number) in measured.items():
        floor = floors[key]
        low, high = np.quantile(floor, [0.025, 0.975])
        spread = f"[{interval[0]:.3g}, {interval[1]:.3g}]" if key == "kernel" else ""
        rows.append((name, f"{number:.3g}", spread, f"{floor.mean():.3g} [{low:.3g}, {high:.3g}]"))
    return Table(
        "Generated to held-out, beside training to held-out",
        ("measure", "generated", "95 % interval", "training [95 % of draws]"),
        tuple(rows),
        "Precision: generated volumes near patients. Recall: patients near generated volumes. "
        "Density and coverage: the same, less moved by outliers. All but the first depend on the "
        "number of volumes.",
    )
