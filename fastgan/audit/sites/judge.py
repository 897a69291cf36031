"""Do volumes of different sites or scanners differ, in what, and would it have been seen?"""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import LEAST_SUBJECTS, Cohort, Evidence, Options, subjects_by
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, Verdict
from fastgan.audit.rules import limit
from fastgan.audit.sites.differences import Differences, compare_groups, planted_shifts
from fastgan.audit.statistics import permutation_p, subject_bootstrap
from fastgan.audit.statistics.discriminant import discriminant_scores
from fastgan.audit.statistics.group_tests import Groups, MaxT, centred, max_t
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.descriptors import named_statistics, voxel_descriptors

__all__ = ["judge"]

_DRAWS = 300


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """One finding for each of the columns site and scanner that has two values.

    Raises:
        NotAsked: neither column has two values.
        AuditError: neither column has two values of LEAST_SUBJECTS subjects each.
    """
    cohort = _real(evidence)
    findings, reasons = [], []
    for column in ("site", "scanner"):
        if column not in cohort.columns:
            reasons.append(f"no column {column}")
            continue
        counts = subjects_by(cohort.columns[column], cohort.subjects)
        enough = [v for v, n in counts.items() if n >= LEAST_SUBJECTS]
        if len(enough) < 2:
            reasons.append(
                f"{column}: {', '.join(f'{v} {n}' for v, n in counts.items()) or 'empty'}"
            )
            continue
        kept = cohort.subset(np.isin(cohort.columns[column], enough))
        findings.append(_judge_column(evidence, kept, column, options))
    if not findings and all(_one_value(cohort, column) for column in ("site", "scanner")):
        raise NotAsked("all volumes are of one site and scanner, as far as the manifest says")
    if not findings:
        raise AuditError(
            f"needs two sites or scanners of at least {LEAST_SUBJECTS} subjects each; got "
            + "; ".join(reasons)
        )
    return findings


def _one_value(cohort: Cohort, column: str) -> bool:
    values = cohort.columns.get(column, np.array([], str))
    return len(np.unique(values[values != ""])) < 2


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
    tests = compare_groups(groups, described, named, rng, count)
    null = slice(1, 1 + count)
    p = permutation_p(float(tests.combined[0]), tests.combined[null])
    effects = _effects(groups, named, list(statistics), tests.features, options)
    planted: tuple[Control, ...] = ()
    tables = [_test_table(tests, null), effects]
    power = ""
    if not options.quick:
        table, decisive = planted_shifts(evidence, cohort, groups, described, named, options, rng)
        quiet = [permutation_p(float(c), tests.combined[null]) for c in tests.combined[1 + count :]]
        planted = (
            *decisive,
            controls.quiet(
                f"{column}s permuted among subjects",
                *hits(quiet, options.alpha),
                at_most=options.alpha,
            ),
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
        *Question("sites", f"sites.{column}", f"Do volumes{given} of different {column}s differ?"),
        Outcome(
            "pass",
            f"No evidence that volumes{given} differ between {column}s {named_sites}: AUC "
            f"{area:.2f}, {len(cohort)} volumes of {cohort.n_subjects} subjects.",
        ),
        Outcome(
            severity,
            f"Volumes{given} differ between {column}s {named_sites} (AUC {area:.2f}, "
            f"{cohort.n_subjects} subjects), most in {strongest[0]} (d = {strongest[1]}). "
            + meaning,
        ),
        p=p,
        value=area,
        value_name=f"AUC of a classifier of {column}s, fitted to other subjects",
        floor=float(np.median(tests.auc[null])),
        floor_name=f"{column}s permuted among subjects",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power=power,
        controls=planted,
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


def _test_table(tests: Differences, null: slice) -> Table:
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

    def differences(at: Integers) -> Floats:
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


def _meaning(groups: Groups, cohort: Cohort, options: Options) -> tuple[Verdict, str]:
    if cohort.labels is None or len(np.unique(cohort.labels)) < 2:
        return "warn", "Models trained at one need not hold at the other."
    rng = options.rng("sites/label")
    free = Groups(groups.codes[0], cohort.subjects, None, rng, 199)
    classes = np.stack([cohort.labels == c for c in np.unique(cohort.labels)], axis=1)
    if max_t(free, classes).p <= limit("shortcuts.goes_with_label"):
        return "fail", "The classes are unevenly spread over them, so this is a shortcut."
    return "warn", "Models trained at one need not hold at the other."


def _resemblance(generated: Cohort, described: Floats, sites: Texts, column: str) -> Table:
    """Which site generated volumes resemble, by a classifier of all real volumes; context only."""
    names = np.unique(sites)
    member = sites[:, None] == names
    share = member.mean(axis=0)
    scores = discriminant_scores(described, member, voxel_descriptors(generated.values), ridge=0.1)
    guess = np.argmax(scores + share, axis=1)
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
