"""Does the label show in what surrounds the volumes: files, sites, and who is on which side?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit import controls
from fastgan.audit.controls import by_subject, hits, planted_p, power_level
from fastgan.audit.evidence import (
    COLUMNS,
    LEAST_SUBJECTS,
    Cohort,
    Evidence,
    Options,
    require_labels,
)
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table, answer
from fastgan.audit.leakage.duplicates import (
    DUPLICATES,
    NEAR,
    SUBJECTS,
    near_duplicates,
    repeated_volumes,
    shared_subjects,
)
from fastgan.audit.leakage.file_fields import CONTENT, feature_columns, file_fields
from fastgan.audit.rules import limit
from fastgan.audit.statistics import permutation_p
from fastgan.audit.statistics.group_tests import Groups, MaxT, max_t
from fastgan.audit.statistics.roc import auc_rows
from fastgan.audit.statistics.trading import trading
from fastgan.errors import NotAsked

__all__ = ["judge"]

FILES = Question(
    "leakage", "leakage.files", "Do the files tell the label before they are opened as volumes?"
)
SITES = Question("leakage", "leakage.sites", "Does the site or scanner tell the label?")
AGREEMENT = limit("leakage.agreement")
"""Share of subjects whose planted field goes with the label."""


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Duplicates, subjects on both sides, files and sites that tell the label.

    A question that the data do not allow is answered "cannot tell", with the reason.
    """
    parts = (
        (SUBJECTS, shared_subjects),
        (DUPLICATES, repeated_volumes),
        (NEAR, near_duplicates),
        (FILES, _files),
        (SITES, _sites),
    )
    return answer(parts, evidence, options)


def _files(evidence: Evidence, options: Options) -> Finding:
    cohort = evidence.training
    labels = require_labels(cohort, LEAST_SUBJECTS, evidence.classes)
    if not cohort.files:
        raise NotAsked("the volumes come out of an archive, there are no files of their own")
    columns, names = feature_columns(file_fields(cohort.files))
    finding, result = _association(
        FILES,
        cohort,
        labels,
        columns,
        names,
        options,
        f"a header field that goes with the label in {AGREEMENT:.0%} of subjects",
    )
    if result is None:
        return finding
    telling = [
        n for n, p in zip(names, result.p_adjusted.min(axis=0), strict=True) if p <= options.alpha
    ]
    content = bool(telling) and all(n in CONTENT for n in telling)
    best = telling or [names[int(np.abs(result.t).max(axis=0).argmax())]]
    note = (
        " In compressed files this follows from what is in the volume, so it need be no fault."
        if content
        else " A network that reads voxels alone cannot see it, but whoever splits, sorts or reads "
        "files can, and it shows that classes were collected or written apart."
    )
    rejected = Outcome(
        "warn" if content else "fail",
        f"The label shows in the files: {', '.join(best[:3])} ({len(cohort)} files).{note}",
    )
    return replace(finding, rejected=rejected)


def _sites(evidence: Evidence, options: Options) -> Finding:
    cohort = evidence.training
    labels = require_labels(cohort, LEAST_SUBJECTS, evidence.classes)
    fields = {
        name: [str(v) for v in cohort.columns[name]]
        for name in COLUMNS
        if name in cohort.columns and len(np.unique(cohort.columns[name])) > 1
    }
    if not fields:
        raise NotAsked(f"no column of {', '.join(COLUMNS)} has two values")
    columns, names = feature_columns(dict(fields))
    finding, result = _association(
        SITES,
        cohort,
        labels,
        columns,
        names,
        options,
        f"a site that goes with the label in {AGREEMENT:.0%} of subjects",
    )
    if result is None:
        return finding
    best = names[int(np.abs(result.t).max(axis=0).argmax())]
    rejected = Outcome(
        "warn",
        f"Classes are unevenly spread over sites or scanners ({best}): whatever marks the site in "
        "the voxels is a shortcut to the label. See the shortcuts and site judgements.",
    )
    return replace(finding, rejected=rejected)


def _association(
    question: Question,
    cohort: Cohort,
    labels: Integers,
    columns: Floats,
    names: list[str],
    options: Options,
    planted: str,
) -> tuple[Finding, MaxT | None]:
    """Label against columns, one family; the finding lacks the outcome of a rejection."""
    count = options.permutations
    runs = 0 if options.quick else options.planted
    rng = options.rng(question.key.replace(".", "/"))
    if not columns.shape[1]:
        outcome = Outcome("pass", f"No evidence: no field differs between {len(cohort)} volumes.")
        finding = Finding(
            *question,
            outcome,
            n_volumes=len(cohort),
            n_subjects=cohort.n_subjects,
            by_construction="no field differs",
        )
        return finding, None
    trade = trading(labels, cohort.subjects, None, rng, "the label")
    cohort, labels, columns = (
        cohort.subset(trade.volumes),
        labels[trade.volumes],
        columns[trade.volumes],
    )
    groups = Groups(labels, cohort.subjects, None, rng, count + runs)
    result = max_t(groups, columns, count)
    null = result.maxima[1 : 1 + count] * (1 + 1e-6)
    made: tuple[Control, ...] = ()
    power = ""
    if runs:
        fields = by_subject(groups, 1 + count, AGREEMENT, rng)
        p = planted_p(groups, fields, result.maxima, count)
        quiet = [permutation_p(m, null) for m in result.maxima[1 + count :]]
        made = (
            controls.found(planted, *hits(p, power_level(options.alpha))),
            controls.quiet(
                "labels permuted among subjects", *hits(quiet, options.alpha), at_most=options.alpha
            ),
        )
        power = f"{planted}: found in {made[0].rate:.0%} of {runs} runs"
    areas = [
        max(float(auc_rows(columns[None, :, j], (labels == k)[None])[0]) for k in np.unique(labels))
        for j in range(columns.shape[1])
    ]
    order = np.argsort(result.p_adjusted.min(axis=0), kind="stable")[:15]
    table = Table(
        "What goes with the label",
        ("field", "AUC", "adjusted p"),
        tuple(
            (names[j], round(areas[j], 3), round(float(result.p_adjusted[:, j].min()), 4))
            for j in order
        ),
        f"{len(names)} columns, one family (max-T); the largest AUC over classes.",
    )
    best = int(np.abs(result.t).max(axis=0).argmax())
    accepted = Outcome(
        "pass",
        f"No evidence that it does: {len(names)} columns of {len(cohort)} volumes, "
        f"{cohort.n_subjects} subjects; the strongest is {names[best]} (AUC {areas[best]:.2f}).",
    )
    finding = Finding(
        *question,
        accepted,
        p=result.p,
        value=areas[best],
        value_name=f"AUC of {names[best]}",
        floor=0.5,
        floor_name="a field that knows nothing",
        power=power,
        controls=made,
        tables=(table,),
        methods=(
            "Numbers as ranks, text as one column a level; difference of means between classes, "
            f"largest over all columns, {count} permutations of whole subjects. "
            f"{trade.said(count)} Planted controls must reach p <= {power_level(options.alpha):g}."
        ),
        limits="Linear in ranks: a field that tells the label by its spread alone is not seen.",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
    )
    return finding, result
