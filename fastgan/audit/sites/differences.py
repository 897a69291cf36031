"""Three tests ask whether sites differ; planted shifts measure their power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Table
from fastgan.audit.rules import limit
from fastgan.audit.statistics import permutation_p
from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.group_tests import Groups, MaxT, combined, max_t, mean_discrepancy
from fastgan.errors import AuditError
from fastgan.measures.descriptors import named_statistics, voxel_descriptors

__all__ = ["Differences", "compare_groups", "planted_shifts"]

EFFECTS = (0.3, 0.5, 0.8)
"""Planted offsets of all voxels, in standard deviations of the volumes' means."""
DECISIVE = limit("sites.decisive")
"""Effect that must be found at the full number of subjects."""
SHARES = (0.25, 0.5, 1.0)
"""Of the subjects, for the power table."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 60, 499


@dataclass(frozen=True)
class Differences:
    """Three tests of one question and their combination, by rows of a `Groups`."""

    auc: Floats
    """[rows] of a classifier of sites, fitted to other subjects."""
    discrepancy: Floats
    """[rows] unbiased squared maximum mean discrepancy."""
    features: MaxT
    """Of the named statistics."""
    combined: Floats
    """[rows] minus the smallest p of the three."""


def compare_groups(
    groups: Groups,
    described: Floats,
    named: Floats,
    rng: np.random.Generator,
    permutations: int | None = None,
) -> Differences:
    """Classifier, mean discrepancy and named statistics, within the strata of the groups.

    Args:
        groups: sites and their permutations.
        described: [N, F] `voxel_descriptors`.
        named: [N, G] statistics with names.
        rng: of the classifier's folds.
        permutations: rows of the null, as `max_t`.
    """
    fit = CrossFit(described, groups.subjects, groups.strata, rng)
    scale = np.sqrt((fit.components**2).mean(axis=0).sum())
    area = fit.auc(groups)
    discrepancy = mean_discrepancy(groups, fit.components / scale)
    features = max_t(groups, named, permutations)
    return Differences(area, discrepancy, features, combined([area, discrepancy, features.maxima]))


def planted_shifts(
    evidence: Evidence,
    cohort: Cohort,
    groups: Groups,
    described: Floats,
    named: Floats,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Table, tuple[Control, ...]]:
    """Power table and controls: offsets planted into a random half of the user's own subjects."""
    deviation = float(cohort.values.mean(axis=(1, 2, 3), dtype=np.float64).std())
    runs = min(CONTROL_RUNS, options.planted)
    people = np.unique(groups.subjects)
    chosen = {s: rng.permutation(people)[: max(round(s * len(people)), 1)] for s in SHARES}
    rows, whole = [], []
    for effect in EFFECTS:
        moved = np.clip(cohort.values + np.float32(effect * deviation), -1.0, 1.0)
        planted = voxel_descriptors(moved)
        statistics = named_statistics(moved, evidence.spacing, evidence.modality)
        shifted = named.copy()
        shifted[:, : len(statistics)] = np.stack(list(statistics.values()), axis=1)
        line: list[str | float] = [effect]
        for share in SHARES:
            at = np.flatnonzero(np.isin(groups.subjects, chosen[share]))
            try:
                p = _planted(cohort, at, (described, planted), (named, shifted), runs, rng)
            except AuditError:
                line.append("-")
                continue
            name = f"an offset of {effect:g} sd between two halves of {len(chosen[share])} subjects"
            control = controls.found(
                name,
                *hits(p, power_level(options.alpha)),
                decisive=effect == DECISIVE and share == 1.0,
            )
            line.append(round(control.rate, 2))
            if share == 1.0:
                whole.append(control)
        rows.append(tuple(line))
    table = Table(
        "Share of planted shifts found",
        ("effect, sd between volumes", *(f"{len(chosen[s])} subjects" for s in SHARES)),
        tuple(rows),
        f"{runs} runs each, found at p <= {power_level(options.alpha):g}; all voxels of one half "
        "of the subjects brighter. '-': too few subjects.",
    )
    return table, tuple(whole)


def _planted(
    cohort: Cohort,
    at: Integers,
    described: tuple[Floats, Floats],
    named: tuple[Floats, Floats],
    runs: int,
    rng: np.random.Generator,
) -> list[float]:
    """p-values of runs in which a random half of the subjects is shifted."""
    subjects = cohort.subjects[at]
    people, who = np.unique(subjects, return_inverse=True)
    out = []
    for _ in range(runs):
        half = rng.permutation(len(people)) < len(people) // 2
        site = half[who]
        strata = None if cohort.labels is None else cohort.labels[at]
        groups = Groups(site.astype(str), subjects, strata, rng, CONTROL_PERMUTATIONS)
        each = [np.where(site[:, None], b[at], a[at]) for a, b in (described, named)]
        tests = compare_groups(groups, each[0], each[1], rng)
        out.append(permutation_p(float(tests.combined[0]), tests.combined[1:]))
    return out
