"""Do volumes of different sites or scanners differ, in what, and would it have been seen?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.controls import found_control, power_level, quiet_control
from fastgan.audit.descriptors import named_statistics, voxel_descriptors
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.group_tests import (
    CrossFit,
    Groups,
    MaxT,
    centred,
    combined,
    max_t,
    mean_discrepancy,
)
from fastgan.audit.judgement import Control, Finding, Outcome, Table, Verdict
from fastgan.audit.statistics import permutation_p, subject_bootstrap
from fastgan.errors import AuditError

__all__ = ["LEAST_SUBJECTS", "Tests", "judge", "test_groups"]

Floats = NDArray[np.floating]
Names = NDArray[np.str_]

LEAST_SUBJECTS = 10
"""Subjects that each of two sites needs."""
EFFECTS = (0.3, 0.5, 0.8)
"""Planted offsets of all voxels, in standard deviations of the volumes' means."""
DECISIVE = 0.8
"""Effect that must be found at the full number of subjects."""
SHARES = (0.25, 0.5, 1.0)
"""Of the subjects, for the power table."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 60, 499
_DRAWS = 300


@dataclass(frozen=True)
class Tests:
    """Three tests of one question and their combination, by rows of a `Groups`."""

    auc: Floats
    """[rows] of a classifier of sites, fitted to other subjects."""
    discrepancy: Floats
    """[rows] unbiased squared maximum mean discrepancy."""
    features: MaxT
    """Of the named statistics."""
    combined: Floats
    """[rows] minus the smallest p of the three."""


def test_groups(
    groups: Groups,
    described: Floats,
    named: Floats,
    rng: np.random.Generator,
    permutations: int | None = None,
) -> Tests:
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
    return Tests(area, discrepancy, features, combined([area, discrepancy, features.maxima]))


test_groups.__test__ = False  # type: ignore[attr-defined]  # a function, not a test of pytest


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """One finding for each of the columns site and scanner that has two values.

    Raises:
        AuditError: neither column has two values of LEAST_SUBJECTS subjects each.
    """
    cohort = _real(evidence)
    findings, reasons = [], []
    for column in ("site", "scanner"):
        if column not in cohort.columns:
            reasons.append(f"no column {column}")
            continue
        counts = {
            str(v): len(np.unique(cohort.subjects[cohort.columns[column] == v]))
            for v in np.unique(cohort.columns[column])
            if v
        }
        enough = [v for v, n in counts.items() if n >= LEAST_SUBJECTS]
        if len(enough) < 2:
            reasons.append(
                f"{column}: {', '.join(f'{v} {n}' for v, n in counts.items()) or 'empty'}"
            )
            continue
        kept = cohort.subset(np.isin(cohort.columns[column], enough))
        findings.append(_judge_column(evidence, kept, column, options))
    if not findings:
        raise AuditError(
            f"needs two sites or scanners of at least {LEAST_SUBJECTS} subjects each; got "
            + "; ".join(reasons)
        )
    return findings


def _real(evidence: Evidence) -> Cohort:
    """Training and held-out volumes as one cohort."""
    a, b = evidence.training, evidence.holdout
    labels = None
    if a.labels is not None and b.labels is not None:
        labels = np.concatenate([a.labels, b.labels])
    columns = {
        name: np.concatenate([a.columns[name], b.columns[name]])
        for name in a.columns
        if name in b.columns
    }
    values = np.concatenate([a.values, b.values])
    return Cohort("real", values, np.concatenate([a.subjects, b.subjects]), labels, columns)


def _judge_column(evidence: Evidence, cohort: Cohort, column: str, options: Options) -> Finding:
    sites, strata = cohort.columns[column], cohort.labels
    count = options.permutations
    rng = options.rng(f"sites/{column}")
    described = voxel_descriptors(cohort.values)
    others = {k: v for k, v in cohort.columns.items() if k not in ("site", "scanner")}
    statistics = named_statistics(cohort.values, evidence.spacing, evidence.modality, others)
    named = np.stack(list(statistics.values()), axis=1)
    quiet_runs = 0 if options.quick else options.planted
    groups = Groups(sites, cohort.subjects, strata, rng, count + quiet_runs)
    tests = test_groups(groups, described, named, rng, count)
    null = slice(1, 1 + count)
    p = permutation_p(float(tests.combined[0]), tests.combined[null])
    effects = _effects(groups, named, list(statistics), tests.features, options)
    controls: tuple[Control, ...] = ()
    tables = [_test_table(tests, null), effects]
    power = ""
    if not options.quick:
        table, decisive = _power(evidence, cohort, groups, described, named, options, rng)
        quiet = [permutation_p(float(c), tests.combined[null]) for c in tests.combined[1 + count :]]
        controls = (
            *decisive,
            quiet_control(f"{column}s permuted among subjects", quiet, options.alpha),
        )
        tables.append(table)
        power = "; ".join(f"{c.name}: {c.rate:.0%}" for c in decisive)
    if evidence.generated is not None and len(evidence.generated):
        tables.append(_resemblance(evidence.generated, described, sites, column))
    area = float(tests.auc[0])
    given = " of the same class" if strata is not None else ""
    named_sites = ", ".join(str(n) for n in groups.names)
    severity, meaning = _meaning(groups, cohort, options)
    strongest = effects.rows[0] if effects.rows else ("", 0.0)
    return Finding(
        "sites",
        f"sites.{column}",
        f"Do volumes{given} of different {column}s differ?",
        Outcome(
            "pass",
            f"No evidence that volumes{given} differ between {column}s {named_sites}: AUC "
            f"{area:.2f}, {len(cohort)} volumes of {cohort.n_subjects} subjects.",
        ),
        Outcome(
            severity,
            f"Volumes{given} differ between {column}s {named_sites} (AUC {area:.2f}, "
            f"{cohort.n_subjects} subjects), most in {strongest[0]} (d = {strongest[1]}). {meaning}",
        ),
        p=p,
        value=area,
        value_name=f"AUC of a classifier of {column}s, fitted to other subjects",
        floor=float(np.median(tests.auc[null])),
        floor_name=f"{column}s permuted among subjects",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power=power,
        controls=controls,
        tables=tuple(tables),
        methods=(
            "Ridge discriminant on block means, quantiles and detail; unbiased maximum mean "
            "discrepancy with three Gaussians about the pooled median distance; named statistics "
            f"(max-T). Whole subjects permuted {count} times"
            + (" within classes" if strata is not None else "")
            + "; the smallest p of the three against its own permutation distribution (min-P). "
            f"Planted shifts must reach p <= {power_level(options.alpha):g}."
        ),
        limits="A difference may be one of patients and not of machines; this cannot tell which.",
    )


def _test_table(tests: Tests, null: slice) -> Table:
    rows = []
    for name, values in (
        ("classifier, AUC", tests.auc),
        ("mean discrepancy, squared", tests.discrepancy),
        ("named statistics, largest |t|", tests.features.maxima),
    ):
        p = permutation_p(float(values[0]), values[null])
        rows.append((name, round(float(values[0]), 4), round(float(np.median(values[null])), 4), p))
    return Table("Tests", ("test", "value", "median under permutation", "p"), tuple(rows))


def _effects(
    groups: Groups, named: Floats, names: list[str], result: MaxT, options: Options
) -> Table:
    """Standardised differences of named statistics with intervals, the strongest first."""
    lines = np.abs(result.t).argmax(axis=0)
    rng = options.rng("sites/effects")
    order = np.argsort(-np.abs(result.t).max(axis=0), kind="stable")[:10]

    def differences(at: NDArray[np.integer]) -> Floats:
        values = centred(named[at], groups.strata[at])
        out = np.empty(named.shape[1])
        for line, group in enumerate(groups.contrasts):
            member = groups.codes[0, at] == group
            inside, outside = values[member], values[~member]
            if not len(inside) or not len(outside):
                return np.full(named.shape[1], np.nan)
            spread = np.sqrt((inside.var(axis=0) + outside.var(axis=0)) / 2)
            gap = (inside.mean(axis=0) - outside.mean(axis=0)) / np.maximum(spread, 1e-9)
            out[lines == line] = gap[lines == line]
        return out

    observed = differences(np.arange(len(groups)))
    drawn = [differences(at) for at in subject_bootstrap(groups.subjects, rng, _DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    rows = tuple(
        (
            names[j],
            round(float(observed[j]), 2),
            round(float(low[j]), 2),
            round(float(high[j]), 2),
            str(groups.names[groups.contrasts[lines[j]]]),
            round(float(result.p_adjusted[lines[j], j]), 4),
        )
        for j in order
    )
    return Table(
        "What differs",
        ("statistic", "d", "from", "to", "of", "adjusted p"),
        rows,
        "d: mean of the named site less that of the others over the pooled deviation, within "
        "classes where there are any; 95 % interval by drawing subjects; p by max-T.",
    )


def _power(
    evidence: Evidence,
    cohort: Cohort,
    groups: Groups,
    described: Floats,
    named: Floats,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Table, tuple[Control, ...]]:
    """Offsets planted into one of two random halves of the user's own subjects."""
    deviation = float(cohort.values.mean(axis=(1, 2, 3), dtype=np.float64).std())
    runs = min(CONTROL_RUNS, options.planted)
    people = np.unique(groups.subjects)
    chosen = {s: rng.permutation(people)[: max(round(s * len(people)), 1)] for s in SHARES}
    rows, controls = [], []
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
            control = found_control(
                name, p, options.alpha, decisive=effect == DECISIVE and share == 1.0
            )
            line.append(round(control.rate, 2))
            if share == 1.0:
                controls.append(control)
        rows.append(tuple(line))
    table = Table(
        "Share of planted shifts found",
        ("effect, sd between volumes", *(f"{len(chosen[s])} subjects" for s in SHARES)),
        tuple(rows),
        f"{runs} runs each, found at p <= {power_level(options.alpha):g}; all voxels of one half "
        "of the subjects brighter. '-': too few subjects.",
    )
    return table, tuple(controls)


def _planted(
    cohort: Cohort,
    at: NDArray[np.integer],
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
        tests = test_groups(groups, each[0], each[1], rng)
        out.append(permutation_p(float(tests.combined[0]), tests.combined[1:]))
    return out


def _meaning(groups: Groups, cohort: Cohort, options: Options) -> tuple[Verdict, str]:
    if cohort.labels is None or len(np.unique(cohort.labels)) < 2:
        return "warn", "Models trained at one need not hold at the other."
    rng = options.rng("sites/label")
    free = Groups(groups.codes[0], cohort.subjects, None, rng, 199)
    classes = np.stack([cohort.labels == c for c in np.unique(cohort.labels)], axis=1)
    if max_t(free, classes).p <= 0.05:
        return "fail", "The classes are unevenly spread over them, so this is a shortcut."
    return "warn", "Models trained at one need not hold at the other."


def _resemblance(generated: Cohort, described: Floats, sites: Names, column: str) -> Table:
    """Which site generated volumes resemble, by a classifier of all real volumes; context only."""
    names = np.unique(sites)
    mean, scale = described.mean(axis=0), np.maximum(described.std(axis=0), 1e-6)
    real, made = ((x - mean) / scale for x in (described, voxel_descriptors(generated.values)))
    share = np.array([(sites == n).mean() for n in names])
    target = (sites[:, None] == names) - share
    normal = real.T @ real + len(real) * np.eye(real.shape[1]) / 10
    weights = np.linalg.solve(normal, real.T @ target)
    guess = np.argmax(made @ weights + share, axis=1)
    rows = tuple(
        (str(n), round(float(share[i]), 3), round(float((guess == i).mean()), 3))
        for i, n in enumerate(names)
    )
    return Table(
        f"Which {column} generated volumes resemble",
        (column, "share of real volumes", "share of generated volumes"),
        rows,
        "Context, not a test: every generated volume is given the site it resembles most.",
    )
