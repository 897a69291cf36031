"""Some manifest columns could serve as shortcuts; some statistics explain the label alone."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit import controls
from fastgan.audit.controls import hits, power_level
from fastgan.audit.evidence import (
    LEAST_SUBJECTS,
    Cohort,
    Evidence,
    Options,
    require_labels,
    subjects_by,
)
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.rules import limit
from fastgan.audit.statistics import auc, auc_interval, holm
from fastgan.audit.statistics.cross_fit import CrossFit
from fastgan.audit.statistics.group_tests import Groups, combined, max_t
from fastgan.audit.statistics.trading import trading
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.descriptors import (
    named_statistics,
    voxel_descriptors,
)

__all__ = ["detected", "judge_columns", "judge_explained", "levels_of"]

COLUMNS = Question(
    "shortcuts",
    "shortcuts.columns",
    "Does a manifest column go with the label and show in the voxels?",
)
EXPLAINED = Question("shortcuts", "shortcuts.explained", "What explains the label by itself?")
MOST_COLUMNS = 12
TELLING = limit("shortcuts.explained.telling")
"""AUC of a single statistic above which the reader is warned."""
CONTROL_RUNS, CONTROL_PERMUTATIONS = 60, 399
_SIZES = ("share of soft voxels", "middle", "border")


def levels_of(column: Texts, subjects: Texts) -> Texts | None:
    """A column as few levels [N], "" where unused: text as it is, numbers in halves.

    None where fewer than two levels have enough subjects.
    """
    levels, known = column.astype(object), column != ""
    try:
        numbers = np.array([float(v) for v in column[known]])
    except ValueError:
        pass
    else:
        if len(np.unique(numbers)) > 2 and np.isfinite(numbers).all():
            middle = float(np.median(numbers))
            at_most = numbers <= middle if (numbers > middle).any() else numbers < middle
            levels[known] = np.where(at_most, f"<= {middle:g}", f"> {middle:g}")
    named = levels.astype(str)
    enough = [v for v, n in subjects_by(named, subjects).items() if n >= LEAST_SUBJECTS]
    if len(enough) < 2:
        return None
    return np.where(np.isin(named, enough), named, "")


def judge_columns(evidence: Evidence, options: Options) -> Finding:
    """Utility (column against label) and detectability (column from voxels, given the label).

    Source: G-AUDIT, arXiv 2503.09969.

    Raises:
        AuditError: no labels, or no column with two levels of enough subjects.
    """
    cohort = evidence.training
    labels = require_labels(cohort)
    usable: dict[str, Texts] = {}
    for name, column in cohort.columns.items():
        levels = levels_of(column, cohort.subjects)
        if levels is not None and len(usable) < MOST_COLUMNS:
            usable[name] = levels
    if all(len(np.unique(column)) < 2 for column in cohort.columns.values()):
        raise NotAsked("no manifest column has two values")
    if not usable:
        raise AuditError(
            f"no manifest column has two values of at least {LEAST_SUBJECTS} subjects each"
        )
    described = voxel_descriptors(cohort.values)
    rng = options.rng("shortcuts/columns")
    count = options.permutations
    rows: list[tuple[str | float | int, ...]] = []
    p = []
    refused: dict[str, str] = {}
    for name, levels in usable.items():
        at = np.flatnonzero(levels != "")
        try:
            at = at[trading(levels[at], cohort.subjects[at], labels[at], rng, name).volumes]
        except AuditError as error:
            refused[name] = str(error)
            continue
        who, own = cohort.subjects[at], labels[at]
        free = Groups(levels[at], who, None, rng, count)
        classes = np.stack([own == c for c in np.unique(labels)], axis=1)
        utility = max_t(free, classes)
        given = Groups(levels[at], who, own, rng, count)
        area, seen = detected(described[at], given, rng)
        association = _association(levels[at], own)
        rows.append(
            (
                name,
                len(np.unique(levels[at])),
                round(association, 3),
                round(utility.p, 4),
                round(area, 3),
                round(seen, 4),
                round(association * max(0.0, 2 * area - 1), 3),
            )
        )
        p.append(max(utility.p, seen))
    if not p:
        raise AuditError("; ".join(f"{name}: {why}" for name, why in refused.items()))
    adjusted = holm(p)
    worst = int(np.argmin(adjusted))
    names = [name for name in usable if name not in refused]
    risky = [n for n, value in zip(names, adjusted, strict=True) if value <= options.alpha]
    planted: tuple[Control, ...] = ()
    if not options.quick:
        planted = _controls(cohort, labels, described, options, rng)
    return Finding(
        *COLUMNS,
        Outcome(
            "pass",
            f"No evidence that any of {', '.join(names)} both goes with the label and can be read "
            f"from the voxels ({len(cohort)} volumes, {cohort.n_subjects} subjects)."
            + "".join(f" {name} could not be judged: {why}." for name, why in refused.items()),
        ),
        Outcome(
            "warn",
            f"{', '.join(risky or [names[worst]])}: goes with the label and can be read from the "
            "voxels, so a network may use it in place of the disease.",
        ),
        p=float(adjusted.min()),
        value=float(rows[worst][6]),
        value_name=f"utility x detectability of {names[worst]}",
        floor=0.0,
        floor_name="a column unrelated to the label or to the voxels",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        power="" if not planted else f"{planted[0].name}: seen in {planted[0].rate:.0%}",
        controls=planted,
        tables=(
            Table(
                "Columns",
                (
                    "column",
                    "levels",
                    "utility (Cramer's V)",
                    "p",
                    "detectability (AUC)",
                    "p",
                    "risk",
                ),
                tuple(rows),
                "Risk: V times (2 AUC - 1). A column is held a shortcut only if both p-values are "
                "small; their larger one is corrected over columns (Holm).",
            ),
        ),
        methods=(
            f"Utility: classes against levels, {count} permutations of whole subjects. "
            "Detectability: ridge discriminant on voxel descriptors, fitted to other subjects, and "
            "the largest |t| of one of them (min-P), permuted within classes. "
            f"Controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits="A column may be a legitimate predictor; whether it is, is a clinical question.",
    )


def detected(features: Floats, given: Groups, rng: np.random.Generator) -> tuple[float, float]:
    """AUC of a discriminant on the features, and p-value of it and the largest single difference.

    What shows in one feature is lost among many; what shows a little in many, in none alone.
    """
    area = CrossFit(features, given.subjects, given.strata, rng).auc(given)
    return float(area[0]), given.p(combined([area, max_t(given, features).maxima]))


SHIFT = limit("shortcuts.columns.shift")
AGREEMENT = limit("shortcuts.columns.agreement")


def _controls(
    cohort: Cohort,
    labels: Integers,
    described: Floats,
    options: Options,
    rng: np.random.Generator,
) -> tuple[Control, ...]:
    """Columns that go with the label, whose volumes are brighter, or are left as they are.

    The second must keep quiet: what goes with the label and shows in no voxel is no shortcut.
    """
    people, who = np.unique(cohort.subjects, return_inverse=True)
    step = SHIFT * float(cohort.values.mean(axis=(1, 2, 3), dtype=np.float64).std())
    moved = voxel_descriptors(np.clip(cohort.values + np.float32(step), -1.0, 1.0))
    found: list[float] = []
    alarms: list[float] = []
    for _ in range(CONTROL_RUNS):
        wrong = rng.random(len(people)) >= AGREEMENT
        member = (labels == labels.max()) ^ wrong[who]
        at = trading(member, who, labels, rng, "a planted column").volumes
        own, carries = labels[at], member[at]
        free = Groups(carries, who[at], None, rng, CONTROL_PERMUTATIONS)
        classes = np.stack([own == c for c in np.unique(labels)], axis=1)
        useful = max_t(free, classes).p
        given = Groups(carries, who[at], own, rng, CONTROL_PERMUTATIONS)
        brighter = np.where(carries[:, None], moved[at], described[at])
        for features, p in ((brighter, found), (described[at], alarms)):
            p.append(max(useful, detected(features, given, rng)[1]))
    goes = f"that goes with the label in {AGREEMENT:.0%} of subjects"
    return (
        controls.found(
            f"a column {goes} and makes its volumes brighter by {SHIFT:g} sd",
            *hits(found, power_level(options.alpha)),
        ),
        controls.quiet(
            f"a column {goes} and changes no voxel",
            *hits(alarms, options.alpha),
            at_most=options.alpha,
        ),
    )


def _association(levels: Texts, labels: Integers) -> float:
    """Cramer's V."""
    rows, columns = (np.unique(v, return_inverse=True)[1] for v in (levels, labels))
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi / table.sum() / max(min(table.shape) - 1, 1)))


def judge_explained(evidence: Evidence, options: Options) -> Finding:
    """Single statistics of size, form and intensity against the label: stated, not failed.

    Raises:
        AuditError: no labels or too few subjects.
    """
    cohort = evidence.training
    labels = require_labels(cohort)
    statistics = named_statistics(cohort.values, evidence.spacing, evidence.modality)
    if evidence.modality == "mask":  # these are the size under other names
        statistics = {k: v for k, v in statistics.items() if k not in _SIZES}
    rng = options.rng("shortcuts/explained")
    present = np.unique(labels)
    shown = present[1:] if len(present) == 2 else present
    best: dict[str, tuple[float, int]] = {}
    for name, values in statistics.items():
        each = [(auc(values, labels == c), int(c)) for c in shown]
        best[name] = max(each, key=lambda pair: abs(pair[0] - 0.5))
    order = sorted(best, key=lambda name: -abs(best[name][0] - 0.5))
    rows: list[tuple[str, str, float, float, float]] = []
    for name in order[:8]:
        area, c = best[name]
        low, high = auc_interval(statistics[name], labels == c, cohort.subjects, rng, 400)
        rows.append((name, _class(evidence, c), round(area, 3), round(low, 3), round(high, 3)))
    name, area = order[0], max(best[order[0]][0], 1 - best[order[0]][0])
    sentence = (
        f"{name[0].upper() + name[1:]} by itself tells the label with an AUC of {area:.2f} "
        f"({len(cohort)} volumes, {cohort.n_subjects} subjects). It may be a legitimate predictor; "
        "whatever claims to read more than it must be compared within equal values of it."
    )
    return Finding(
        *EXPLAINED,
        Outcome("warn" if area >= TELLING else "pass", sentence),
        value=best[name][0],
        value_name=f"AUC of {name} for {_class(evidence, best[name][1])}",
        interval=(rows[0][3], rows[0][4]),
        floor=0.5,
        floor_name="a statistic that knows nothing",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
        by_construction="a statement of what tells the label, not a test",
        tables=(
            Table("Single statistics", ("statistic", "class", "AUC", "from", "to"), tuple(rows)),
        ),
        methods="AUC of each statistic, 95 % interval by drawing subjects.",
        limits=f"Warned from an AUC of {TELLING:g} on; nothing here is a fault by itself.",
    )


def _class(evidence: Evidence, position: int) -> str:
    return evidence.classes[position] if position < len(evidence.classes) else str(position)
