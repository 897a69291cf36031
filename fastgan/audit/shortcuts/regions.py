"""Can the label be told from places where it should not show: corners, border, background?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import by_subject, hits, power_level
from fastgan.audit.evidence import Cohort, Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.shortcuts.places import (
    EDGES,
    Region,
    corner_boxes,
    edges_in_corners,
    regions,
    size_strata,
    varied_columns,
    without_size,
)
from fastgan.audit.shortcuts.windows import made_by_windows, under_one_window
from fastgan.audit.statistics import bootstrap_interval, permutation_p
from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.group_tests import Groups, combined, max_t
from fastgan.audit.statistics.roc import stratified_auc
from fastgan.audit.statistics.trading import trading
from fastgan.errors import AuditError
from fastgan.measures.descriptors import size_of

__all__ = ["judge_regions", "read_regions"]

QUESTION = Question(
    "shortcuts",
    "shortcuts.regions",
    "Can the label be told from corners, border or background alone?",
)
HEIGHT = limit("shortcuts.regions.height")
SHIFT = limit("shortcuts.regions.shift")
AGREEMENT = limit("shortcuts.regions.agreement")
MARK = 3
"""Voxels along each side of a planted mark; one less where axes have fewer than twelve."""
CORNERS = 4
"""Corners in which marks are planted, a quarter of the runs each."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 60, 499
LEAST_SPREAD = 0.02
"""Of a region's mean, in [-1, 1]: where nothing varies any shift stands out."""
SHOULD_BE_EMPTY = frozenset({"corners", EDGES, "background"})
"""Regions that no anatomy reaches; at the border it may."""


@dataclass(frozen=True)
class Reading:
    """How well one region tells the groups, by their rows."""

    region: Region
    fit: CrossFit
    area: Floats
    """[rows] AUC of a discriminant on all of its features, fitted to other subjects."""
    largest: Floats | None
    """[rows] largest |t| of a single feature: a small mark is lost among many features. None of
    masks, of which single features tell what is left of the size."""

    def rows(self, chosen: slice | Integers = slice(None)) -> list[Floats]:
        """All statistics."""
        each = [self.area] if self.largest is None else [self.area, self.largest]
        return [rows[chosen] for rows in each]


def read_regions(
    places: list[Region],
    values: Floats,
    sizes: Floats | None,
    groups: Groups,
    rng: np.random.Generator,
) -> list[Reading]:
    """Readings of the regions in which something varies.

    Args:
        places: the regions.
        values: [N, D, H, W].
        sizes: [N] of masks, whose size is taken out of the features; None of pictures.
        groups: labels and their permutations.
        rng: of the discriminants' folds.
    """
    found = []
    for region in places:
        features = _features(region, values, sizes)
        if features is not None:
            found.append(_reading(region, features, groups, sizes is not None, rng))
    return found


def _reading(
    region: Region, features: Floats, groups: Groups, masks: bool, rng: np.random.Generator
) -> Reading:
    fit = CrossFit(features, groups.subjects, groups.strata, rng)
    largest = None if masks else max_t(groups, features).maxima
    return Reading(region, fit, fit.auc(groups), largest)


def _features(region: Region, values: Floats, sizes: Floats | None) -> Floats | None:
    described = region.describe(values)
    kept = varied_columns(described)
    if not kept.any():
        return None
    described = described[:, kept]
    return described if sizes is None else without_size(described, sizes)


def judge_regions(evidence: Evidence, options: Options) -> Finding:
    """One finding over all regions of the training volumes.

    Raises:
        AuditError: no labels, too few subjects, or regions in which nothing varies.
    """
    labels = require_labels(evidence.training)
    masks = evidence.modality == "mask"
    places = regions(evidence)
    places.insert(1, edges_in_corners(evidence.training.values.shape[1:]))
    count = options.permutations
    rng = options.rng("shortcuts/regions")
    strata = size_strata(evidence.training.values) if masks else None
    trade = trading(labels, evidence.training.subjects, strata, rng, "the label", "fifth of size")
    cohort, labels = evidence.training.subset(trade.volumes), labels[trade.volumes]
    strata = None if strata is None else strata[trade.volumes]
    runs = 0 if options.quick else options.planted
    groups = Groups(labels, cohort.subjects, strata, rng, count + runs)
    sizes = size_of(cohort.values) if masks else None
    readings = read_regions(places, cohort.values, sizes, groups, rng)
    if not readings:
        raise AuditError("corners, border and background do not vary between volumes")
    null = slice(1, 1 + count)
    told = [combined(reading.rows()) for reading in readings]
    maxima = np.max(told, axis=0)
    adjusted = [permutation_p(float(rows[0]), maxima[null]) for rows in told]
    names = [reading.region.name for reading in readings]
    telling = [name for name, p in zip(names, adjusted, strict=True) if p <= options.alpha]
    planted: tuple[Control, ...] = ()
    if not options.quick:
        found = _controls(groups, readings, places, cohort.values, sizes, options, rng)
        quiet_p = [permutation_p(float(m), maxima[null]) for m in maxima[1 + count :]]
        name = "labels permuted among subjects"
        quiet = controls.quiet(name, *hits(quiet_p, options.alpha), at_most=options.alpha)
        planted = (*found, quiet)
    given = " beyond what their size tells" if masks else ""
    rest = _under_one_window(evidence, cohort, options, min(adjusted))
    best = max(readings, key=lambda reading: float(reading.area[0]))
    area, chance = float(best.area[0]), float(np.median(best.area[null]))
    worst = readings[int(np.argmin(adjusted))].region.name
    severity: Verdict = "fail" if not masks and SHOULD_BE_EMPTY & set(telling) else "warn"
    meaning = "a network may learn that instead of the disease."
    if rest is not None and rest > power_level(options.alpha):
        severity, meaning = "warn", made_by_windows(cohort, rest)
    elif rest is not None:
        meaning += f" It is there under one window of all volumes, too (p = {rest:.2g})."
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence that the label can be told from {', '.join(names)}{given}: best AUC "
            f"{area:.2f} ({best.region.name}), {len(cohort)} volumes, {cohort.n_subjects} subjects"
            f"{trade.note}.",
        ),
        Outcome(
            severity,
            f"The label can be told from {', '.join(telling) or worst} alone{given} (best AUC "
            f"{area:.2f}, by chance {chance:.2f}): " + meaning,
        ),
        p=min(adjusted),
        value=area,
        value_name=f"AUC of the {best.region.name}, fitted to other subjects",
        interval=_interval(best.fit, groups, options),
        floor=chance,
        floor_name="labels permuted among subjects",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power="; ".join(f"{c.name}: {c.rate:.0%}" for c in planted if c.expected == "found"),
        controls=planted,
        tables=(_table(readings, adjusted, groups, options),),
        methods=(
            "Block means and deviations of each region, and the steps between neighbouring voxels "
            "of corners. Of each region a ridge discriminant fitted to other subjects (AUC)"
            + ("" if masks else " and the largest |t| of one feature")
            + f", {count} permutations of whole subjects"
            + (", within fifths of size, size regressed out of the features; " if masks else "; ")
            + "the smallest p of all against its own permutation distribution (min-P). "
            f"{trade.said(count)} Planted controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits=(
            "Of masks, a difference at the border is one of form or place, not a burnt-in mark."
            if masks
            else "Anatomy that reaches the border and goes with the disease is found here, too."
        ),
    )


def _table(
    readings: list[Reading], adjusted: list[float], groups: Groups, options: Options
) -> Table:
    rows = tuple(
        (
            reading.region.name,
            round(float(reading.area[0]), 3),
            *_interval(reading.fit, groups, options),
            round(p, 4),
        )
        for reading, p in zip(readings, adjusted, strict=True)
    )
    return Table("Regions", ("region", "AUC", "from", "to", "adjusted p"), rows)


def _under_one_window(
    evidence: Evidence, cohort: Cohort, options: Options, p: float
) -> float | None:
    """p-value of the same test under one window; None if there is no need, or no such window."""
    same = under_one_window(cohort) if p <= options.alpha else None
    if same is None:
        return None
    alone = replace(options, quick=True)
    try:
        return judge_regions(replace(evidence, training=same), alone).p
    except AuditError:  # nothing varies there any more
        return 1.0


def _interval(fit: CrossFit, groups: Groups, options: Options) -> tuple[float, float]:
    """Of the last contrast's AUC; the fit is held, subjects are drawn."""
    group = groups.contrasts[-1]
    scores = fit.scores(groups.contrast(group)[:1])
    positive = groups.codes[:1] == group

    def area(drawn: Integers) -> float:
        parts = scores[:, drawn], positive[:, drawn], groups.strata[drawn]
        return float(stratified_auc(*parts)[0])

    rng = options.rng("shortcuts/regions/interval")
    low, high = bootstrap_interval(area, groups.subjects, rng, 300)
    return round(low, 3), round(high, 3)


def _controls(
    groups: Groups,
    readings: list[Reading],
    places: list[Region],
    values: Floats,
    sizes: Floats | None,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Control, ...]:
    """A mark in a corner, and each region brighter, along with permuted labels.

    A planted fault is looked for in its own region; all others are as they were, so the power is at
    least this.
    """
    runs = min(CONTROL_RUNS, options.planted)
    carries = by_subject(groups, len(groups.codes) - runs, AGREEMENT, rng)
    level = power_level(options.alpha)
    side = MARK if min(values.shape[1:]) >= 4 * MARK else MARK - 1
    corners = corner_boxes(values.shape[1:], [side] * 3)
    marked = [_raised(values, corners[k], HEIGHT) for k in rng.permutation(8)[:CORNERS]]
    edges = next(region for region in places if region.name == EDGES)
    p = _planted(groups, readings, edges, (values, marked), sizes, carries, rng)
    mark = f"{side}^3 voxels in a corner brighter by {HEIGHT / 2:.0%} of the range"
    out = [controls.found(f"{mark} in {AGREEMENT:.0%} agreement", *hits(p, level))]
    for region in (reading.region for reading in readings):
        if region.name in ("corners", EDGES):
            continue
        spread = float(values[:, region.where].mean(axis=1, dtype=np.float64).std())
        lifted = [_raised(values, region.where, SHIFT * max(spread, LEAST_SPREAD))]
        p = _planted(groups, readings, region, (values, lifted), sizes, carries, rng)
        said = f"all of the {region.name} brighter by {SHIFT:g} sd in {AGREEMENT:.0%} agreement"
        out.append(controls.found(said, *hits(p, level), decisive=False))
    return tuple(out)


def _planted(
    groups: Groups,
    readings: list[Reading],
    region: Region,
    volumes: tuple[Floats, list[Floats]],
    sizes: Floats | None,
    carries: Bools,
    rng: np.random.Generator,
) -> list[float]:
    """p-values of runs in which the subjects [R, N] that carry it have changed volumes.

    Args:
        groups: labels; their last R rows are the truth of the runs.
        readings: of all regions as they are.
        region: where the change is looked for.
        volumes: as they are, and changed ones of which each run takes the next.
        sizes: [N] of masks.
        carries: [R, N] who has the changed volume.
        rng: of the discriminants' folds.
    """
    plain, changed = volumes
    first, out = len(groups.codes) - len(carries), []
    for run, bears in enumerate(carries):
        marked = np.where(bears[:, None, None, None], changed[run % len(changed)], plain)
        features = _features(region, marked, None if sizes is None else size_of(marked))
        rows = np.r_[first + run, 1 : 1 + CONTROL_PERMUTATIONS]
        told = [v for one in readings if one.region is not region for v in one.rows(rows)]
        if features is not None:
            own = _reading(region, features, groups.rows(rows), sizes is not None, rng)
            told += own.rows()
        best = combined(told)
        out.append(permutation_p(float(best[0]), best[1:]))
    return out


def _raised(values: Floats, at: tuple[slice, ...] | Bools, height: float) -> Floats:
    out = values.copy()
    place = (slice(None), *at) if isinstance(at, tuple) else (slice(None), at)
    out[place] = np.minimum(out[place] + np.float32(height), 1.0)
    return out
