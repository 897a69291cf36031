"""Three tests ask whether sites differ; planted shifts measure their power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import LEAST_SUBJECTS, Cohort, Evidence, Options
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
    """Power table and controls: offsets of one site's voxels, in the user's own volumes.

    Sites are traded among subjects as the test itself trades them, so a planted site has as many
    subjects of each class and of each count of volumes as the real one.

    Args:
        evidence: for spacing and modality.
        cohort: the volumes that take part.
        groups: their sites; the last `options.planted` rows are the truth of control runs.
        described: [N, F] `voxel_descriptors`.
        named: [N, G] statistics with names.
        options: error level, effort.
        rng: of the subjects of smaller sets.
    """
    deviation = float(cohort.values.mean(axis=(1, 2, 3), dtype=np.float64).std())
    runs = min(CONTROL_RUNS, options.planted)
    sets = _sets(groups, runs, rng)
    rows, whole = [], []
    for effect in EFFECTS:
        moved = np.clip(cohort.values + np.float32(effect * deviation), -1.0, 1.0)
        planted = voxel_descriptors(moved)
        statistics = named_statistics(moved, evidence.spacing, evidence.modality)
        shifted = named.copy()
        shifted[:, : len(statistics)] = np.stack(list(statistics.values()), axis=1)
        line: list[str | float] = [effect]
        for share, count, part in sets:
            if part is None:
                line.append("-")
                continue
            at, some = part
            both = (described[at], planted[at]), (named[at], shifted[at])
            name = f"an offset of {effect:g} sd at one site of {count} subjects"
            control = controls.found(
                name,
                *hits(_planted(some, *both, runs, rng), power_level(options.alpha)),
                decisive=effect == DECISIVE and share == 1.0,
            )
            line.append(round(control.rate, 2))
            if share == 1.0:
                whole.append(control)
        rows.append(tuple(line))
    table = Table(
        "Share of planted shifts found",
        ("effect, sd between volumes", *(f"{count} subjects" for _, count, _ in sets)),
        tuple(rows),
        f"{runs} runs each, found at p <= {power_level(options.alpha):g}; all voxels of one site "
        "brighter, sites traded among subjects. '-': too few subjects.",
    )
    return table, tuple(whole)


def _sets(
    groups: Groups, runs: int, rng: np.random.Generator
) -> list[tuple[float, int, tuple[Integers, Groups] | None]]:
    """(share, subjects, positions and their groups) of each share; None where nothing trades."""
    people = np.unique(groups.subjects)
    out: list[tuple[float, int, tuple[Integers, Groups] | None]] = []
    for share in SHARES:
        chosen = rng.permutation(people)[: max(round(share * len(people)), 1)]
        at = np.flatnonzero(np.isin(groups.subjects, chosen))
        if share == 1.0:
            few = np.r_[: 1 + CONTROL_PERMUTATIONS, len(groups.codes) - runs : len(groups.codes)]
            out.append((share, len(chosen), (at, groups.rows(few))))
            continue
        names, strata = groups.names[groups.codes[0, at]], groups.strata[at]
        try:
            if len(chosen) < 2 * LEAST_SUBJECTS:
                raise AuditError("too few subjects")
            count = CONTROL_PERMUTATIONS + runs
            some = Groups(names, groups.subjects[at], strata, rng, count)
        except AuditError:
            out.append((share, len(chosen), None))
        else:
            out.append((share, len(chosen), (at, some)))
    return out


def _planted(
    groups: Groups,
    described: tuple[Floats, Floats],
    named: tuple[Floats, Floats],
    runs: int,
    rng: np.random.Generator,
) -> list[float]:
    """p-values of runs in which one site of the last rows is shifted, each site in turn."""
    out = []
    first = len(groups.codes) - runs
    for run in range(runs):
        truth = groups.rows(np.r_[first + run, 1:first])
        at_site = truth.codes[0] == run % len(groups.names)
        each = [np.where(at_site[:, None], b, a) for a, b in (described, named)]
        tests = compare_groups(truth, each[0], each[1], rng)
        out.append(permutation_p(float(tests.combined[0]), tests.combined[1:]))
    return out
