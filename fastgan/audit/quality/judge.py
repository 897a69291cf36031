"""How like patients, and how varied, is the generated set? Seven questions, a kind of fault each.

Blank volumes, repeated ones, kinds of patient that are missing, patients that are not reached,
noise, blur and regular patterns; then two distances between sets, which depend on the features and
on the number of volumes, so that each stands beside the same between patients and patients. None
says whether a set may be used: a set of copies is as like patients as can be.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Bools, Floats, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import LEAST_TO_FIT, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Part, Question, answer
from fastgan.audit.quality.blank import blank_volumes
from fastgan.audit.quality.context.figures import (
    DRAWS,
    Known,
    Trial,
    figures_table,
    in_turn,
    measured,
)
from fastgan.audit.quality.diversity import judge_diversity
from fastgan.audit.quality.feature_distances import KernelDistance
from fastgan.audit.quality.features import PyramidFeatures
from fastgan.audit.quality.kinds import KINDS, judge_kinds
from fastgan.audit.quality.reach import judge_coverage
from fastgan.audit.quality.repetition import REPETITION, judge_repetition
from fastgan.audit.quality.spectrum import SPECTRUM, judge_spectrum
from fastgan.audit.rules import limit
from fastgan.audit.statistics import subject_bootstrap
from fastgan.audit.statistics.discriminant import standardised
from fastgan.errors import AuditError

__all__ = ["judge"]

DISTANCE = Question("quality", "quality.distance", "Is the generated set like patients?")
FLOOR = limit("quality.distance.floor")
FAR = 5.0
"""Deviations as which larger ones count: the kernel is cubic, and one volume would decide."""
_DRAWS = 500
_DEALS = 200


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Blank, repeated, missing and spoilt volumes, reach, distance to patients, and diversity.

    Args:
        evidence: training, held-out and generated volumes. All but the first question need 20
            volumes of as many subjects of each kind, and features that vary.
        options: seed and whether controls are left out.

    Raises:
        AuditError: no generated volumes.

    Cost: one pass of the features and a Fourier transform a volume; kernels between all pairs of
    volumes, 500 resamplings of them.
    """
    blank = blank_volumes(evidence.require_generated())
    parts: list[tuple[Question, Part]] = [
        (REPETITION, _enough(judge_repetition)),
        (KINDS, _enough(judge_kinds)),
        (SPECTRUM, _enough(judge_spectrum)),
        (DISTANCE, _enough(_compared)),
    ]
    return [blank, *answer(parts, evidence, options)]


def _enough(part: Part) -> Part:
    """The same, refused where there are too few volumes of any kind."""

    def asked(evidence: Evidence, options: Options) -> Finding | list[Finding]:
        for cohort in (evidence.training, evidence.holdout, evidence.require_generated()):
            if min(len(cohort), cohort.n_subjects) < LEAST_TO_FIT:
                raise AuditError(
                    f"needs at least {LEAST_TO_FIT} {cohort.name} volumes of as many subjects, got "
                    f"{len(cohort)} of {cohort.n_subjects}"
                )
        return part(evidence, options)

    return asked


def _compared(evidence: Evidence, options: Options) -> list[Finding]:
    made = evidence.require_generated()
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
        judge_coverage(evidence, options, ours, held, drawn, about),
    ]


def _distance(
    evidence: Evidence,
    options: Options,
    chosen: PyramidFeatures,
    sets: tuple[Floats, Floats, Floats, Floats],
    about: str,
) -> Finding:
    raw, ours, held, drawn = sets
    holdout, made = evidence.holdout, evidence.require_generated()
    rng = options.rng("quality/kernel")
    between = KernelDistance(drawn, held, made.subjects, holdout.subjects)
    value = between.value()
    low, high = _interval(between, value, made.subjects, holdout.subjects, rng)
    people = _Patients(evidence, np.concatenate([ours, held]))
    count = min(len(made), evidence.training.n_subjects // 2)
    floors, trials = people.floors(count, options)
    kernel_floor = float(np.quantile(floors, FLOOR))
    compared = (
        f"the kernel distance to held-out patients is {value:.3g} [{low:.3g}, {high:.3g}], that of "
        f"patients dealt at random to other patients up to {kernel_floor:.3g}"
    )
    if value > kernel_floor:
        outcome = Outcome("warn", f"The generated set differs from patients: {compared}.")
    elif high > kernel_floor + limit("quality.distance.widest") * float(np.ptp(floors)):
        outcome = Outcome(
            "cannot tell",
            f"Cannot tell whether the set differs from patients: {compared}, and the interval is "
            "wider than such draws differ by far. Next: more held-out patients.",
        )
    else:
        outcome = Outcome("pass", f"No evidence of a difference from patients found: {compared}.")
    planted: tuple[Control, ...] = ()
    if not options.quick:
        planted = (people.changed(options, chosen, raw, kernel_floor),)
    return Finding(
        *DISTANCE,
        accepted=outcome,
        value=value,
        value_name="kernel distance, generated to held-out (squared, in the kernel's space)",
        interval=(low, high),
        floor=kernel_floor,
        floor_name=f"{FLOOR:.1%} quantile of patients dealt at random to other patients",
        n_volumes=len(made) + len(holdout),
        n_subjects=holdout.n_subjects,
        power="; ".join(f"{c.name}: seen in {c.rate:.0%} of {c.runs} runs" for c in planted),
        controls=planted,
        tables=(
            figures_table(
                (value, (low, high), floors),
                measured(
                    (Known(ours, evidence.training.subjects), Known(held, holdout.subjects)),
                    drawn,
                    trials,
                    count,
                    options.rng("quality/context"),
                ),
                count,
            ),
        ),
        methods=(
            f"{about} Standardised by the training volumes. Kernel distance: unbiased, kernel "
            f"(x y / F + 1)^3, pairs of one subject left out, {_DRAWS} bootstrap samples of "
            f"subjects on both sides. Floor: all patients dealt {_DEALS} times into as many as are "
            "held out and the others, who pose as generated. The other measures: means over "
            f"{DRAWS} random sets of {count} generated volumes; intervals from the spread over "
            f"random halves; patients in the first {DRAWS} of these deals, one volume each."
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
) -> tuple[float, float]:
    """95 % interval of a kernel distance, by bootstrap of subjects on both sides."""
    drawn = between.resampled(
        subject_bootstrap(subjects, rng, _DRAWS), subject_bootstrap(holdout, rng, _DRAWS)
    )
    # A bootstrap of squared distances is shifted by their noise; its spread is not.
    low, high = value + np.quantile(drawn, [0.025, 0.975]) - drawn.mean()
    return float(low), float(high)


class _Patients:
    """All patients, dealt again and again into as many as are held out, and the others.

    The distance between the two parts is what a perfect generator's to held-out patients may be:
    its volumes would be further patients.
    """

    def __init__(self, evidence: Evidence, features: Floats) -> None:
        self.evidence, self.features = evidence, features
        real = (evidence.training, evidence.holdout)
        self.subjects = np.concatenate([cohort.subjects for cohort in real])

    def deals(self, runs: int, rng: np.random.Generator) -> Iterator[tuple[Bools, Bools]]:
        """[N] who poses as generated, and [N] who as held out."""
        known, who = np.unique(self.subjects, return_inverse=True)
        for _ in range(runs):
            held = np.zeros(len(known), bool)
            held[rng.permutation(len(known))[: self.evidence.holdout.n_subjects]] = True
            yield ~held[who], held[who]

    def floors(self, count: int, options: Options) -> tuple[Floats, list[Trial]]:
        """The kernel distance [R] between patients and patients; and some of the deals.

        In these, one volume each, `count` of those who pose as generated stand for generated
        volumes and the others of them for training patients.
        """
        rng, draw = options.rng("quality/floor"), options.rng("quality/dealt")
        kernel = KernelDistance(self.features, self.features, self.subjects, self.subjects)
        floors: list[float] = []
        trials: list[Trial] = []
        for posing, held in self.deals(_DEALS, rng):
            floors.append(kernel.value(posing.astype(float), held.astype(float)))
            if len(trials) < DRAWS:
                order = in_turn(rng.permutation(np.flatnonzero(posing)), self.subjects)
                known, rows = self.features[order[count:]], self.features[order[:count]]
                unseen = Known(self.features[held], self.subjects[held]).drawn(draw)
                trials.append(Trial(rows, known, unseen))
        return np.array(floors), trials

    def changed(
        self, options: Options, chosen: PyramidFeatures, raw: Floats, floor: float
    ) -> Control:
        """Patients, changed, pose as generated: further from others than patients are?"""
        real = (self.evidence.training, self.evidence.holdout)
        modality = self.evidence.modality
        values, name = _changed(np.concatenate([c.values for c in real]), modality)
        (moved,) = standardised(raw, chosen(values), limit=FAR)
        between = KernelDistance(moved, self.features, self.subjects, self.subjects)
        deals = self.deals(min(options.planted, _DEALS // 4), options.rng("quality/changed"))
        far = [between.value(p.astype(float), h.astype(float)) > floor for p, h in deals]
        return controls.found(name, sum(far), len(far), by="lower bound")


def _changed(values: Floats, modality: str) -> tuple[Floats, str]:
    """Masks are smoothed, pictures brighter: what the features are there to see."""
    batch = torch.from_numpy(np.asarray(values, np.float32))
    if modality != "mask":
        spread = batch.mean(dim=(1, 2, 3)).std()
        name = "patients brighter by a deviation of their means, posing as generated"
        return (batch + spread).numpy(), name
    batch = batch[:, None]
    for _ in range(2):
        batch = F.avg_pool3d(F.pad(batch, (1,) * 6, mode="replicate"), 3, stride=1)
    return batch[:, 0].numpy(), "masks of patients smoothed over 5 voxels, posing as generated"
