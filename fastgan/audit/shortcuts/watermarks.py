"""Do marks at fixed voxels tell scanners apart or, where none are known, labels?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import (
    COLUMNS,
    LEAST_SUBJECTS,
    Cohort,
    Evidence,
    Options,
    require_labels,
    subjects_by,
)
from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Question, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.shortcuts.marks import Marks, detached, find_marks, hit_table, shell
from fastgan.audit.shortcuts.windows import made_by_windows, under_one_window
from fastgan.audit.statistics.group_tests import Groups, max_t
from fastgan.audit.statistics.trading import Trading, trading
from fastgan.errors import AuditError
from fastgan.pictures.canvas import canvas, png

__all__ = ["judge_marks", "origin_column"]

QUESTION = Question(
    "shortcuts",
    "shortcuts.marks",
    "Does a mark at a fixed place tell scanners or classes apart?",
)
DECISIVE = limit("shortcuts.marks.height")
HEIGHTS = (0.5 * DECISIVE, DECISIVE, 1.5 * DECISIVE)
"""Planted marks, in standard deviations of a voxel; the second is decisive."""
AGREEMENT = limit("shortcuts.marks.agreement")
"""Of a planted mark with the label; a scanner's mark is on every volume of it."""
WHOLE_PICTURE = limit("shortcuts.marks.whole_picture")
GOES_WITH = limit("shortcuts.goes_with_label")


@dataclass(frozen=True)
class _Case:
    """What is held against what."""

    cohort: Cohort
    values: Floats
    groups: Texts
    strata: Integers | None
    region: Bools
    where: str
    between: str
    agreement: float


def origin_column(cohort: Cohort) -> str | None:
    """The column, scanner before site, that has two values of enough subjects; None if none has."""
    for name in ("scanner", "site", *COLUMNS):
        if name in cohort.columns and len(_enough(cohort, name)) > 1:
            return name
    return None


def _enough(cohort: Cohort, column: str) -> list[str]:
    counts = subjects_by(cohort.columns[column], cohort.subjects)
    return [value for value, count in counts.items() if count >= LEAST_SUBJECTS]


def _case(evidence: Evidence) -> _Case:
    cohort = evidence.training
    column = origin_column(cohort)
    every = np.ones(cohort.values.shape[1:], dtype=bool)
    if column is not None:
        cohort = cohort.subset(np.isin(cohort.columns[column], _enough(cohort, column)))
        given = " of the same class" if cohort.labels is not None else ""
        between = f"volumes{given} of different {column}s"
        groups, where = cohort.columns[column], "anywhere in the volume"
        return _Case(cohort, cohort.values, groups, cohort.labels, every, where, between, 1.0)
    names = require_labels(cohort, LEAST_SUBJECTS).astype(str)
    values, region, where = cohort.values, shell(every.shape), "in the outer eighth of the volume"
    if evidence.modality == "mask":
        values, region = detached(cohort.values), every
        where = "outside the body that each mask shows"
    return _Case(cohort, values, names, None, region, where, "the classes", AGREEMENT)


def judge_marks(evidence: Evidence, options: Options) -> Finding:
    """Max-T over voxels of the training volumes.

    Raises:
        AuditError: neither a column of origin nor labels with enough subjects, or volumes too
            small for a mark.
    """
    rng = options.rng("shortcuts/marks")
    case, trade = _traded(_case(evidence), rng)
    cohort, count = case.cohort, options.permutations
    runs = 0 if options.quick else options.planted
    groups = Groups(case.groups, cohort.subjects, case.strata, rng, count + runs)
    marks = find_marks(
        case.values,
        groups,
        case.region,
        permutations=count,
        alpha=options.alpha,
        rng=rng,
        plants=() if options.quick else tuple((h, case.agreement) for h in HEIGHTS),
    )
    planted = _controls(marks, case, options)
    tested, differing = int(marks.tested.sum()), int(marks.hits.sum())
    power = "; ".join(f"{c.name}: {c.rate:.0%}" for c in planted[:-1])
    origin = case.between.startswith("volumes")
    severity, meaning = _meaning(evidence, case, marks, options, origin)
    rest = None if origin else _under_one_window(evidence, options, marks.p)
    if rest is not None and rest > power_level(options.alpha):
        severity, meaning = "warn", made_by_windows(cohort, rest)
    nothing = " compared" if tested else ": none there varies, so any mark would stand out at once"
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence of a mark that differs between {case.between} {case.where}: "
            f"{len(cohort)} volumes of {cohort.n_subjects} subjects{trade.note}, {tested} "
            f"voxels{nothing}.",
        ),
        Outcome(
            severity,
            f"{differing} of {tested} voxels {case.where} differ between {case.between}. {meaning}",
        ),
        p=marks.p,
        value=marks.largest,
        value_name="largest |t| of a voxel, a step or a mean of 2^3",
        floor=float(np.quantile(marks.maxima[1:], 0.95)),
        floor_name="95 % quantile of the same under permutation",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power=power,
        controls=planted,
        tables=(hit_table(marks, evidence.spacing),) if differing else (),
        figures=_figure(marks) if differing else (),
        methods=(
            "Difference of means of every voxel that varies, of the steps to its neighbours and of "
            f"means of 2^3, largest of all (max-T), {count} permutations of whole subjects"
            + (" within classes" if case.strata is not None else "")
            + f". {trade.said(count)} Planted marks of {marks.side}^3 voxels must reach p <= "
            f"{power_level(options.alpha):g}."
        ),
        limits=(
            "Marks that move, or that a resampling has spread over the volume, are not seen. "
            + (
                "Of masks, a mark is a voxel that is drawn apart from the body; between scanners "
                "it is a difference of segmentation, size or place."
                if evidence.modality == "mask"
                else "Without a column of scanners, marks are looked for outside the middle only, "
                "where the disease itself differs."
                if not origin
                else "A scanner whose gain or sharpness differs is seen at many voxels at once."
            )
        ),
    )


def _traded(case: _Case, rng: np.random.Generator) -> tuple[_Case, Trading]:
    """The case with the volumes that take part."""
    trade = trading(case.groups, case.cohort.subjects, case.strata, rng, "what is compared")
    at = trade.volumes
    strata = None if case.strata is None else case.strata[at]
    part = replace(
        case,
        cohort=case.cohort.subset(at),
        values=case.values[at],
        groups=case.groups[at],
        strata=strata,
    )
    return part, trade


def _under_one_window(evidence: Evidence, options: Options, p: float) -> float | None:
    """p-value of the same test under one window; None if there is no need, or no such window."""
    same = under_one_window(evidence.training) if p <= options.alpha else None
    if same is None:
        return None
    return judge_marks(replace(evidence, training=same), replace(options, quick=True)).p


def _controls(marks: Marks, case: _Case, options: Options) -> tuple[Control, ...]:
    if not marks.planted_p:
        return ()
    out = []
    for (height, agreement), p in marks.planted_p.items():
        name = f"{marks.side}^3 voxels brighter by {height:g} sd, {agreement:.0%} agreement"
        reached = hits(p, power_level(options.alpha))
        out.append(controls.found(name, *reached, decisive=height == DECISIVE))
    quiet = controls.quiet(
        "groups permuted among subjects", *hits(marks.quiet_p, options.alpha), at_most=options.alpha
    )
    return (*out, quiet)


def _meaning(
    evidence: Evidence, case: _Case, marks: Marks, options: Options, origin: bool
) -> tuple[Verdict, str]:
    """Severity and what a rejection means."""
    share = marks.hits.sum() / max(int(marks.tested.sum()), 1)
    if not origin:
        if evidence.modality == "mask":
            return "fail", "Something other than the body tells the class."
        if share > WHOLE_PICTURE:
            return "warn", "So many differ that it is no mark: look at the regions and the sites."
        return "fail", "A network may read the class there instead of the disease."
    if share > WHOLE_PICTURE:
        return "warn", "So many differ that the whole picture does: see the judgement of sites."
    labels = case.cohort.labels
    if labels is None or len(np.unique(labels)) < 2:
        return "warn", "Whether it goes with a class cannot be told without labels."
    rng = options.rng("shortcuts/marks/label")
    try:
        whose = trading(case.groups, case.cohort.subjects, None, rng, "the scanner").volumes
    except AuditError:
        return "warn", "Whether it goes with a class cannot be told: too few subjects could trade."
    labels = labels[whose]
    groups = Groups(case.groups[whose], case.cohort.subjects[whose], None, rng, 199)
    related = max_t(groups, np.stack([labels == c for c in np.unique(labels)], axis=1)).p
    if related <= GOES_WITH:
        return "fail", "These also go with the class: the mark is a shortcut to the label."
    return "warn", "They are not seen to go with the class, so the mark is no shortcut here yet."


def _figure(marks: Marks) -> tuple[Figure, ...]:
    """Where: the largest |difference| and the hits, seen along each axis."""
    drawn = canvas(1, 3, figsize=(6.6, 2.5), dpi=80, facecolor="white")
    if drawn is None:
        return ()
    page, axes = drawn
    size = np.abs(marks.difference)
    for i, (axis, name) in enumerate(zip(axes, "DHW", strict=True)):
        axis.imshow(size.max(axis=i), cmap="Greys", interpolation="nearest")
        axis.contour(marks.hits.any(axis=i), levels=[0.5], colors="tab:red", linewidths=1.2)
        axis.set(xticks=[], yticks=[], title=f"along {name}")
    caption = (
        "Largest difference of means along each axis; red: voxels that differ after correction."
    )
    return (Figure("Where voxels differ", caption, png(page, bbox_inches="tight")),)
