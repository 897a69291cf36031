"""Can the label be told from places where it should not show: corners, border, background?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import by_subject, hits, power_level
from fastgan.audit.evidence import Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.statistics import bootstrap_interval, permutation_p
from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.group_tests import Groups, standard_rows
from fastgan.audit.statistics.roc import stratified_auc
from fastgan.errors import AuditError
from fastgan.measures.descriptors import block_values, size_of

__all__ = [
    "Region",
    "judge_regions",
    "regions",
    "varied_columns",
    "without_size",
]

QUESTION = Question(
    "shortcuts",
    "shortcuts.regions",
    "Can the label be told from corners, border or background alone?",
)
STRENGTH = limit("shortcuts.regions.height")
AGREEMENT = limit("shortcuts.regions.agreement")
"""Height of a planted shift in standard deviations between volumes, and the share of subjects in
which it goes with the label."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 60, 499
_AIR = -0.9


@dataclass(frozen=True)
class Region:
    """A part of the volume and its features."""

    name: str
    describe: Callable[[Floats], Floats]
    """Volumes [N, D, H, W] -> features [N, F]."""


def regions(evidence: Evidence) -> list[Region]:
    """Corners, border and, where there is any, background.

    Raises:
        AuditError: an axis of fewer than 8 voxels.
    """
    values = evidence.training.values
    if min(values.shape[1:]) < 8:
        raise AuditError(f"needs volumes of at least 8 voxels a side, got {values.shape[1:]}")
    grid = np.indices((8, 8, 8))
    outermost = (grid == 0) | (grid == 7)
    corner, border = outermost.all(axis=0).ravel(), outermost.any(axis=0).ravel()
    found = [
        Region("corners", lambda v: block_values(v, 8)[:, np.tile(corner, 2)]),
        Region("border", lambda v: block_values(v, 8)[:, np.tile(border, 2)]),
    ]
    if evidence.modality == "mask":
        empty = (values > _AIR).mean(axis=0) < 0.01
    else:
        empty = values.mean(axis=0, dtype=np.float64) < _AIR
    if empty.mean() >= 0.01 and np.abs(np.diff(values[:, empty], axis=0)).max(initial=0) > 0:
        # Outside the background every volume is made equal, so that nothing else is described.
        found.append(Region("background", lambda v: block_values(np.where(empty, v, -1.0), 4)))
    return found


def size_strata(values: Floats) -> Integers:
    """[N] fifths of masks' size: sizes explain labels, and are no shortcut."""
    size = size_of(values)
    out: Integers = np.searchsorted(np.quantile(size, [0.2, 0.4, 0.6, 0.8]), size)
    return out


def without_size(features: Floats, values: Floats) -> Floats:
    """Features [N, F] less what a cubic in the logarithm of a mask's size explains of them."""
    size = np.log(size_of(values) + 1e-4)
    size = (size - size.mean()) / max(float(size.std()), 1e-6)
    powers = np.stack([np.ones_like(size), size, size**2, size**3], axis=1)
    explained, *_ = np.linalg.lstsq(powers, features, rcond=None)
    out: Floats = features - powers @ explained
    return out


def varied_columns(features: Floats) -> Bools:
    """[F] in which of [N, F] a fiftieth of the volumes, and ten, differ from the median.

    A corner that one lesion reaches says something of that one and nothing of a class.
    """
    apart = np.abs(features - np.median(features, axis=0)) > 1e-3
    out: Bools = apart.sum(axis=0) >= max(10, 0.02 * len(features))
    return out


def judge_regions(evidence: Evidence, options: Options) -> Finding:
    """One finding over all regions of the training volumes.

    Raises:
        AuditError: no labels, too few subjects, or regions in which nothing varies.
    """
    cohort = evidence.training
    labels = require_labels(cohort)
    masks = evidence.modality == "mask"
    count = options.permutations
    rng = options.rng("shortcuts/regions")
    strata = size_strata(cohort.values) if masks else None
    runs = 0 if options.quick else options.planted
    groups = Groups(labels, cohort.subjects, strata, rng, count + runs)
    fits: dict[str, CrossFit] = {}
    features = {}
    for region in regions(evidence):
        described = region.describe(cohort.values)
        described = described[:, varied_columns(described)]
        if described.shape[1]:
            described = without_size(described, cohort.values) if masks else described
            features[region.name] = described
            fits[region.name] = CrossFit(described, groups.subjects, groups.strata, rng)
    if not fits:
        raise AuditError("corners, border and background do not vary between volumes")
    areas = {name: fit.auc(groups) for name, fit in fits.items()}
    null = slice(1, 1 + count)
    scaled = {name: standard_rows(area) for name, area in areas.items()}
    maxima = np.max(list(scaled.values()), axis=0)
    adjusted = {name: permutation_p(float(z[0]), maxima[null]) for name, z in scaled.items()}
    telling = [name for name, p in adjusted.items() if p <= options.alpha]
    planted: tuple[Control, ...] = ()
    power = ""
    if not options.quick:
        found = _controls(groups, scaled, features, options, rng)
        quiet_p = [permutation_p(float(m), maxima[null]) for m in maxima[1 + count :]]
        name = "labels permuted among subjects"
        quiet = controls.quiet(name, *hits(quiet_p, options.alpha), at_most=options.alpha)
        planted = (*found, quiet)
        power = "; ".join(f"{c.name}: found in {c.rate:.0%}" for c in found)
    given = " beyond what their size tells" if masks else ""
    best = max(areas, key=lambda name: float(areas[name][0]))
    severity: Verdict = "fail" if not masks and {"corners", "background"} & set(telling) else "warn"
    rows = tuple(
        (name, round(float(areas[name][0]), 3), *_interval(fits[name], groups, options), p)
        for name, p in ((n, round(adjusted[n], 4)) for n in areas)
    )
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence that the label can be told from {', '.join(areas)}{given}: best AUC "
            f"{areas[best][0]:.2f} ({best}), {len(cohort)} volumes, {cohort.n_subjects} subjects.",
        ),
        Outcome(
            severity,
            f"The label can be told from {', '.join(telling) or best} alone{given} (AUC "
            f"{areas[best][0]:.2f}, by chance {np.median(areas[best][null]):.2f}): a network may "
            "learn that instead of the disease.",
        ),
        p=min(adjusted.values()),
        value=float(areas[best][0]),
        value_name=f"AUC of the {best}, fitted to other subjects",
        interval=_interval(fits[best], groups, options),
        floor=float(np.median(areas[best][null])),
        floor_name="labels permuted among subjects",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power=power,
        controls=planted,
        tables=(Table("Regions", ("region", "AUC", "from", "to", "adjusted p"), rows),),
        methods=(
            "Block means and deviations of each region, ridge discriminant fitted to other "
            f"subjects, AUC over {count} permutations of whole subjects"
            + (", within fifths of size, size regressed out of the features. " if masks else ". ")
            + f"Planted controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits=(
            "Of masks, a difference at the border is one of form or place, not a burnt-in mark."
            if masks
            else "Anatomy that reaches the border and goes with the disease is found here, too."
        ),
    )


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
    scaled: dict[str, Floats],
    features: dict[str, Floats],
    options: Options,
    rng: np.random.Generator,
) -> tuple[Control, ...]:
    """One block of a region shifted along with permuted labels."""
    out: list[Control] = []
    runs = min(CONTROL_RUNS, options.planted)
    first = len(groups.codes) - runs
    for name, described in features.items():
        carries = by_subject(groups, first, AGREEMENT, rng)
        spread = described.std(axis=0)
        others = [z for other, z in scaled.items() if other != name]
        found = []
        for run in range(runs):
            at = int(rng.integers(described.shape[1]))
            planted = described.copy()
            planted[:, at] += STRENGTH * spread[at] * carries[run]
            scored = np.r_[first + run, 1 : 1 + CONTROL_PERMUTATIONS]
            fit = CrossFit(planted, groups.subjects, groups.strata, rng)
            largest = np.max(
                [standard_rows(fit.auc(groups, scored)), *(z[scored] for z in others)], axis=0
            )
            found.append(permutation_p(float(largest[0]), largest[1:]))
        said = f"one block of the {name} shifted by {STRENGTH:g} sd in {AGREEMENT:.0%} agreement"
        reached = hits(found, power_level(options.alpha))
        out.append(controls.found(said, *reached, decisive=not out))
    return tuple(out)
