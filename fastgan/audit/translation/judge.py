"""Does a translator keep the patient: structure, contrast, lesions; and the truth, if known.

Unpaired translation can turn a contrast round, move or cut a body, and invent or delete tissue,
and still satisfy critics and cycle. What the cycle loss says is left out: the identity has 0.
"""

from __future__ import annotations

import numpy as np
import torch

from fastgan.arrays import Bools, Floats, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Question, Table, cannot_tell
from fastgan.audit.likeness.moves import moved
from fastgan.audit.rules import whole
from fastgan.audit.translation.lesions import judge_lesions
from fastgan.audit.translation.tolerance import TOLERATED, power_of, rate_outcome
from fastgan.audit.translation.truth import judge_truth
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.structure import Structure, same_contrast, structure

__all__ = ["judge"]

STRUCTURE = Question(
    "translation", "translation.structure", "Is the body where it was, and air still dark?"
)
CONTRAST = Question("translation", "translation.contrast", "Is the contrast the right way round?")
LEAST_SUBJECTS = whole("translation.least_subjects")
"""Subjects whose translations say anything: here each is its own control."""
BATCH = 8
QUANTILES = np.linspace(0.005, 0.995, 100)


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Findings translation.structure, .contrast, .planted, .erased, .invented, and .truth.

    Raises:
        AuditError: no translator, fewer than 5 held-out subjects, or translations that are not as
            many as the held-out volumes.

    Cost: some 60 passes over each volume and two translations of one volume of each subject.
    """
    if evidence.translate is None:
        raise NotAsked("nothing here translates volumes")
    holdout = evidence.holdout
    if holdout.n_subjects < LEAST_SUBJECTS:
        raise AuditError(
            f"translation: {holdout.n_subjects} held-out subjects, at least {LEAST_SUBJECTS} are "
            "needed"
        )
    made = evidence.generated.values if evidence.generated is not None else None
    if made is None:
        made = evidence.translate(holdout.values)
    if made.shape != holdout.values.shape:
        raise AuditError(
            f"translation: translations are {made.shape}, the held-out volumes "
            f"{holdout.values.shape}"
        )
    findings = [_structure(evidence, made, options)]
    if evidence.target is not None and evidence.target.n_subjects >= LEAST_SUBJECTS:
        findings.append(_contrast(evidence, evidence.target, made, options))
    findings += judge_lesions(evidence, options, evidence.translate, made)
    if evidence.truth is not None:
        findings.append(judge_truth(evidence, evidence.truth, made, options))
    return findings


def _structure(evidence: Evidence, made: Floats, options: Options) -> Finding:
    holdout = evidence.holdout
    # Where it is not said what the other domain is, no tissue is expected to look alike.
    same = same_contrast(evidence.modality, evidence.about.get("modality_b", "mr"))
    found = _compared(holdout.values, made, same)
    faults = (found.inverted | found.drifted).numpy()
    flagged, subjects = _subjects(faults, holdout.subjects)
    air = ~torch.isnan(found.dice)
    planted: tuple[Control, ...] = ()
    if not options.quick:
        planted = _structure_controls(holdout.values, bool(air.any()), same)
    rows = [
        (name, _mean(values), _low(values))
        for name, values in (
            ("body mask, Dice", found.dice),
            ("share of the body lost", found.lost),
            ("share of the body gained", found.gained),
            ("body brighter than air", found.order),
            ("boundaries within the body, correlation", found.edges),
            ("mutual information within the body", found.mutual_information),
            ("correlation within the body", found.correlation),
        )
    ]
    return Finding(
        *STRUCTURE,
        rate_outcome(
            flagged, subjects, "a moved body or inverted air", "Bodies moved, or air turned bright"
        )
        if air.any() or same
        else cannot_tell("no volume shows air around the body, by which it could be found again"),
        value=_mean(found.dice),
        value_name="Dice of the body masks of source and translation",
        n_volumes=len(holdout),
        n_subjects=subjects,
        power=power_of(planted),
        controls=planted,
        tables=(
            Table("Translations against their sources", ("", "mean", "lowest 5 %"), tuple(rows)),
        ),
        methods=(
            "`measures.structure`: alarms for a Dice below 0.9, for air that is no darker than the "
            "body, and, where both domains show tissue alike, for anticorrelation; a subject "
            "counts when any of its volumes raises one."
        ),
        limits="Small or inner deletions raise no alarm here; see the findings on lesions.",
    )


def _structure_controls(values: Floats, air: bool, same: bool) -> tuple[Control, ...]:
    step = max(1, values.shape[1] // 6)
    away = np.stack([moved(volume, (step, 0, 0)) for volume in values])
    cases = [("the source itself", values, "quiet"), ("the source's negative", -values, "found")]
    if air:
        cases.append(("a body moved by a sixth of the volume", away, "found"))
    elif not same:
        cases = cases[:1]
    planted = []
    for name, changed, expected in cases:
        found = _compared(values, changed, same)
        hits = int((found.inverted | found.drifted).sum())
        planted.append(
            controls.quiet(name, hits, len(values), at_most=TOLERATED, by="rate")
            if expected == "quiet"
            else controls.found(name, hits, len(values))
        )
    return tuple(planted)


def _contrast(evidence: Evidence, target: Cohort, made: Floats, options: Options) -> Finding:
    """Whether negatives of the translations are nearer to the target's intensities than they are.

    Needs no pairs. Real volumes of the target, judged against those of other subjects, say how far
    the difference of the two distances goes by chance.
    """
    real = _quantile_rows(target.values)
    ours = _quantile_rows(made)
    limit = max(
        0.0, max(_turned(real[i], _others(real, target.subjects, i)) for i in range(len(real)))
    )
    pooled = real.mean(0)
    turned = np.array([_turned(row, pooled) for row in ours])
    flagged, subjects = _subjects(turned > limit, evidence.holdout.subjects)
    planted: tuple[Control, ...] = ()
    if not options.quick:
        negatives = np.array([_turned(row, pooled) for row in -real[:, ::-1]])
        hits = int((negatives > limit).sum())
        planted = (controls.found("negatives of real volumes of the target", hits, len(real)),)
    near = float(np.abs(ours - pooled).mean())
    return Finding(
        *CONTRAST,
        rate_outcome(
            flagged,
            subjects,
            "inverted contrast",
            "Negatives of translations resemble the target domain more than translations do",
        ),
        value=near,
        value_name="mean distance of intensities to the target's (of a range of 2)",
        floor=float(np.abs(real - pooled).mean()),
        floor_name="the same of real volumes of the target",
        n_volumes=len(made),
        n_subjects=subjects,
        power=power_of(planted),
        controls=planted,
        tables=(),
        methods=(
            "One-dimensional Wasserstein distances of the intensities of each translation, and of "
            "its negative, to the mean quantiles of the target's held-out volumes; inverted where "
            "the negative is nearer by more than it is for any real volume of the target."
        ),
        limits=(
            "Intensities only: a translation with the right histogram may have it in the wrong "
            "places, and a symmetric histogram hides an inversion."
        ),
    )


def _compared(source: Floats, made: Floats, same: bool) -> Structure:
    parts = []
    for i in range(0, len(source), BATCH):
        pair = (
            torch.from_numpy(np.ascontiguousarray(v[i : i + BATCH], dtype=np.float32))[:, None]
            for v in (source, made)
        )
        parts.append(structure(*pair, same_contrast=same))
    names = Structure.__dataclass_fields__
    return Structure(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def _subjects(faults: Bools, subjects: Texts) -> tuple[int, int]:
    """(subjects with any fault, subjects)."""
    _, who = np.unique(subjects, return_inverse=True)
    hit = np.bincount(who, faults) > 0
    return int(hit.sum()), len(hit)


def _quantile_rows(values: Floats) -> Floats:
    """[N, 100] quantiles of each volume's intensities."""
    return np.quantile(values.reshape(len(values), -1), QUANTILES, axis=1).T


def _turned(row: Floats, pooled: Floats) -> float:
    """How much nearer the negative is: distance of the volume less that of its negative."""
    return float(np.abs(row - pooled).mean() - np.abs(-row[::-1] - pooled).mean())


def _others(rows: Floats, subjects: Texts, i: int) -> Floats:
    mean: Floats = rows[subjects != subjects[i]].mean(0)
    return mean


def _mean(values: torch.Tensor) -> float:
    return round(float(values.nanmean()), 3)


def _low(values: torch.Tensor) -> float:
    known = values[~torch.isnan(values)]
    return round(float(known.quantile(0.05)), 3) if len(known) else float("nan")
