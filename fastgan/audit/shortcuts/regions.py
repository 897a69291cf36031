"""Can the label be told from places where it should not show: corners, border, background?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import by_subject, hits, power_level
from fastgan.audit.evidence import Cohort, Evidence, Options, require_labels
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.shortcuts.windows import made_by_windows, under_one_window
from fastgan.audit.statistics import bootstrap_interval, permutation_p
from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.group_tests import Groups, standard_rows
from fastgan.audit.statistics.roc import stratified_auc
from fastgan.audit.statistics.trading import trading
from fastgan.errors import AuditError
from fastgan.measures.descriptors import block_values, size_of

__all__ = [
    "Region",
    "corner_steps",
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
PLACES = 4
"""Blocks of a region in which shifts are planted."""
LEAST_SPREAD = 0.02
"""Of a block's mean, in [-1, 1]: where nothing varies any mark stands out."""
_AIR = -0.9
CORNER = 5
"""Voxels along each side of a corner that is looked at by its steps."""


@dataclass(frozen=True)
class Region:
    """A part of the volume and its features."""

    name: str
    describe: Callable[[Floats], Floats]
    """Volumes [N, D, H, W] -> features [N, F]."""
    where: Bools
    """[D, H, W] its voxels."""
    blocks: int = 8
    """Along each axis, of its features."""

    def cells(self) -> list[Bools]:
        """[D, H, W] the voxels of each block that lie in it."""
        axes = [
            np.searchsorted(np.arange(self.blocks) * n // self.blocks, np.arange(n), "right")
            for n in self.where.shape
        ]
        block = np.ravel_multi_index(
            tuple(np.meshgrid(*axes, indexing="ij")), (self.blocks + 1,) * 3
        )
        return [self.where & (block == b) for b in np.unique(block[self.where])]


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
    side = [
        np.searchsorted(np.arange(8) * n // 8, np.arange(n), "right") - 1 for n in values.shape[1:]
    ]
    within = np.stack(np.meshgrid(*[(s == 0) | (s == 7) for s in side], indexing="ij"))
    found = [
        Region(
            "corners",
            lambda v: block_values(v, 8)[:, np.tile(corner, 2)],
            np.asarray(within.all(axis=0)),
        ),
        Region(
            "border",
            lambda v: block_values(v, 8)[:, np.tile(border, 2)],
            np.asarray(within.any(axis=0)),
        ),
    ]
    if evidence.modality == "mask":
        empty = (values > _AIR).mean(axis=0) < 0.01
    else:
        empty = values.mean(axis=0, dtype=np.float64) < _AIR
    if empty.mean() >= 0.01 and np.abs(np.diff(values[:, empty], axis=0)).max(initial=0) > 0:
        # Outside the background every volume is made equal, so that nothing else is described.
        found.append(
            Region(
                "background", lambda v: block_values(np.where(empty, v, -1.0), 4), empty, blocks=4
            )
        )
    return found


def corner_steps(shape: tuple[int, ...]) -> list[Region]:
    """The eight corners by the steps between neighbouring voxels, where a small mark has edges.

    Block means of a corner see a mark only where the texture around it is even.
    """
    out = []
    for corner in np.ndindex(2, 2, 2):
        sides = [min(CORNER, n // 2) for n in shape]
        at = tuple(
            slice(n - width, n) if last else slice(0, width)
            for n, width, last in zip(shape, sides, corner, strict=True)
        )
        place = ", ".join(str(n - 1 if last else 0) for n, last in zip(shape, corner, strict=True))
        where = np.zeros(shape, dtype=bool)
        where[at] = True
        out.append(Region(f"corner ({place})", partial(_steps, at), where))
    return out


def _steps(at: tuple[slice, ...], values: Floats) -> Floats:
    """[N, F] differences of neighbours along each axis within a box."""
    box = values[(slice(None), *at)]
    steps = [np.diff(box, axis=axis).reshape(len(box), -1) for axis in (1, 2, 3)]
    return np.concatenate(steps, axis=1)


def size_strata(values: Floats) -> Integers:
    """[N] fifths of masks' size: sizes explain labels, and are no shortcut."""
    size = size_of(values)
    out: Integers = np.searchsorted(np.quantile(size, [0.2, 0.4, 0.6, 0.8]), size)
    return out


def without_size(features: Floats, sizes: Floats) -> Floats:
    """Features [N, F] less what a cubic in the logarithm of a mask's size [N] explains of them."""
    size = np.log(sizes + 1e-4)
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
    labels = require_labels(evidence.training)
    masks = evidence.modality == "mask"
    places = regions(evidence)
    count = options.permutations
    rng = options.rng("shortcuts/regions")
    strata = size_strata(evidence.training.values) if masks else None
    trade = trading(labels, evidence.training.subjects, strata, rng, "the label", "fifth of size")
    cohort, labels = evidence.training.subset(trade.volumes), labels[trade.volumes]
    strata = None if strata is None else strata[trade.volumes]
    runs = 0 if options.quick else options.planted
    groups = Groups(labels, cohort.subjects, strata, rng, count + runs)
    sizes = size_of(cohort.values) if masks else None
    fits: dict[str, CrossFit] = {}
    described_by: dict[str, _Described] = {}
    for region in places:
        described = region.describe(cohort.values)
        kept = varied_columns(described)
        if kept.any():
            one = _Described(region, kept, described[:, kept])
            described_by[region.name] = one
            features = one.plain if sizes is None else without_size(one.plain, sizes)
            fits[region.name] = CrossFit(features, groups.subjects, groups.strata, rng)
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
        found = _controls(groups, scaled, described_by, cohort.values, sizes, options, rng)
        quiet_p = [permutation_p(float(m), maxima[null]) for m in maxima[1 + count :]]
        name = "labels permuted among subjects"
        quiet = controls.quiet(name, *hits(quiet_p, options.alpha), at_most=options.alpha)
        planted = (*found, quiet)
        power = "; ".join(f"{c.name}: found in {c.rate:.0%}" for c in found)
    given = " beyond what their size tells" if masks else ""
    rest = _under_one_window(evidence, cohort, options, min(adjusted.values()))
    best = max(areas, key=lambda name: float(areas[name][0]))
    severity: Verdict = "fail" if not masks and {"corners", "background"} & set(telling) else "warn"
    meaning = "a network may learn that instead of the disease."
    if rest is not None and rest > power_level(options.alpha):
        severity, meaning = "warn", made_by_windows(cohort, rest)
    elif rest is not None:
        meaning += f" It is there under one window of all volumes, too (p = {rest:.2g})."
    rows = tuple(
        (name, round(float(areas[name][0]), 3), *_interval(fits[name], groups, options), p)
        for name, p in ((n, round(adjusted[n], 4)) for n in areas)
    )
    return Finding(
        *QUESTION,
        Outcome(
            "pass",
            f"No evidence that the label can be told from {', '.join(areas)}{given}: best AUC "
            f"{areas[best][0]:.2f} ({best}), {len(cohort)} volumes, {cohort.n_subjects} subjects"
            f"{trade.note}.",
        ),
        Outcome(
            severity,
            f"The label can be told from {', '.join(telling) or best} alone{given} (AUC "
            f"{areas[best][0]:.2f}, by chance {np.median(areas[best][null]):.2f}): " + meaning,
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
            + f"{trade.said(count)} "
            f"Planted controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits=(
            "Of masks, a difference at the border is one of form or place, not a burnt-in mark."
            if masks
            else "Anatomy that reaches the border and goes with the disease is found here, too."
        ),
    )


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


@dataclass(frozen=True)
class _Described:
    """A region and its features of the volumes that were judged."""

    region: Region
    kept: Bools
    plain: Floats


def _controls(
    groups: Groups,
    scaled: dict[str, Floats],
    described_by: dict[str, _Described],
    values: Floats,
    sizes: Floats | None,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Control, ...]:
    """The voxels of one block of a region brighter, along with permuted labels."""
    out: list[Control] = []
    runs = min(CONTROL_RUNS, options.planted)
    first = len(groups.codes) - runs
    for name, one in described_by.items():
        carries = by_subject(groups, first, AGREEMENT, rng)
        others = [z for other, z in scaled.items() if other != name]
        cells = one.region.cells()
        found = []
        for k, cell in enumerate(rng.permutation(len(cells))[:PLACES]):
            marked = _brighter(values, cells[cell])
            changed = one.region.describe(marked)[:, one.kept]
            larger = None if sizes is None else size_of(marked)
            for run in range(k, runs, min(PLACES, len(cells))):
                features = np.where(carries[run][:, None], changed, one.plain)
                if sizes is not None and larger is not None:
                    features = without_size(features, np.where(carries[run], larger, sizes))
                scored = np.r_[first + run, 1 : 1 + CONTROL_PERMUTATIONS]
                fit = CrossFit(features, groups.subjects, groups.strata, rng)
                largest = np.max(
                    [standard_rows(fit.auc(groups, scored)), *(z[scored] for z in others)], axis=0
                )
                found.append(permutation_p(float(largest[0]), largest[1:]))
        said = (
            f"the voxels of one block of the {name} brighter by {STRENGTH:g} sd in "
            f"{AGREEMENT:.0%} agreement"
        )
        reached = hits(found, power_level(options.alpha))
        out.append(controls.found(said, *reached, decisive=not out))
    return tuple(out)


def _brighter(values: Floats, cell: Bools) -> Floats:
    """Volumes with the voxels of a cell raised by deviations of their mean between volumes."""
    out = values.copy()
    spread = float(values[:, cell].mean(axis=1, dtype=np.float64).std())
    out[:, cell] = np.minimum(out[:, cell] + np.float32(STRENGTH * max(spread, LEAST_SPREAD)), 1.0)
    return out
