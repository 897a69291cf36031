"""Files before pixels: does the label show in what surrounds the volumes, or in who is where?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.controls import by_subject, found_control, planted_p, power_level, quiet_control
from fastgan.audit.evidence import COLUMNS, Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Table
from fastgan.audit.leakage.duplicates import repeated_volumes, shared_subjects
from fastgan.audit.leakage.file_fields import CONTENT, feature_columns, file_fields
from fastgan.audit.statistics import permutation_p
from fastgan.audit.statistics.cross_fit import auc_rows
from fastgan.audit.statistics.group_tests import Groups, MaxT, max_t
from fastgan.errors import AuditError

__all__ = ["LEAST_SUBJECTS", "judge"]

Floats = NDArray[np.floating]

LEAST_SUBJECTS = 10
"""Subjects that each class needs."""
AGREEMENT = 0.8
"""Share of subjects whose planted field goes with the label."""


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Duplicates, subjects on both sides, files and sites that tell the label.

    A question that the data do not allow is answered "cannot tell", with the reason.
    """
    findings = [shared_subjects(evidence), repeated_volumes(evidence, options)]
    for question, part in (
        ("Do the files tell the label before they are opened as volumes?", _files),
        ("Does the site or scanner tell the label?", _sites),
    ):
        try:
            findings.append(part(evidence.training, evidence.classes, options))
        except AuditError as error:
            key = part.__name__.strip("_")
            outcome = Outcome("cannot tell", f"Cannot tell: {error}.")
            findings.append(Finding("leakage", f"leakage.{key}", question, outcome))
    return findings


def _labels(cohort: Cohort, classes: tuple[str, ...]) -> NDArray[np.integer]:
    if cohort.labels is None:
        raise AuditError("the volumes have no labels")
    counts = {
        str(c): len(np.unique(cohort.subjects[cohort.labels == c]))
        for c in np.unique(cohort.labels)
    }
    if len(counts) < 2:
        raise AuditError("the volumes have one class")
    if min(counts.values()) < LEAST_SUBJECTS:
        named = ", ".join(
            f"{classes[int(c)] if int(c) < len(classes) else c}: {n}" for c, n in counts.items()
        )
        raise AuditError(f"needs at least {LEAST_SUBJECTS} subjects of each class, got {named}")
    return cohort.labels


def _files(cohort: Cohort, classes: tuple[str, ...], options: Options) -> Finding:
    labels = _labels(cohort, classes)
    if not cohort.files:
        raise AuditError("the volumes come out of an archive, there are no files of their own")
    columns, names = feature_columns(file_fields(cohort.files))
    finding, result = _association(
        "files",
        "Do the files tell the label before they are opened as volumes?",
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


def _sites(cohort: Cohort, classes: tuple[str, ...], options: Options) -> Finding:
    labels = _labels(cohort, classes)
    fields = {
        name: [str(v) for v in cohort.columns[name]]
        for name in COLUMNS
        if name in cohort.columns and len(np.unique(cohort.columns[name])) > 1
    }
    if not fields:
        raise AuditError(f"no column of {', '.join(COLUMNS)} has two values")
    columns, names = feature_columns(dict(fields))
    finding, result = _association(
        "sites",
        "Does the site or scanner tell the label?",
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
    key: str,
    question: str,
    cohort: Cohort,
    labels: NDArray[np.integer],
    columns: Floats,
    names: list[str],
    options: Options,
    planted: str,
) -> tuple[Finding, MaxT | None]:
    """Label against columns, one family; the finding lacks the outcome of a rejection."""
    count = options.permutations
    runs = 0 if options.quick else options.planted
    rng = options.rng(f"leakage/{key}")
    if not columns.shape[1]:
        outcome = Outcome("pass", f"No evidence: no field differs between {len(cohort)} volumes.")
        finding = Finding(
            "leakage",
            f"leakage.{key}",
            question,
            outcome,
            n_volumes=len(cohort),
            n_subjects=cohort.n_subjects,
            power="any field",
        )
        return finding, None
    groups = Groups(labels, cohort.subjects, None, rng, count + runs)
    result = max_t(groups, columns, count)
    null = result.maxima[1 : 1 + count] * (1 + 1e-6)
    controls: tuple[Control, ...] = ()
    power = ""
    if runs:
        fields = by_subject(groups, 1 + count, AGREEMENT, rng)
        found = found_control(
            planted, planted_p(groups, fields, result.maxima, count), options.alpha
        )
        quiet = [permutation_p(m, null) for m in result.maxima[1 + count :]]
        controls = (found, quiet_control("labels permuted among subjects", quiet, options.alpha))
        power = f"{planted}: found in {found.rate:.0%} of {runs} runs"
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
        "leakage",
        f"leakage.{key}",
        question,
        accepted,
        p=result.p,
        value=areas[best],
        value_name=f"AUC of {names[best]}",
        floor=0.5,
        floor_name="a field that knows nothing",
        power=power,
        controls=controls,
        tables=(table,),
        methods=(
            "Numbers as ranks, text as one column a level; difference of means between classes, "
            f"largest over all columns, {count} permutations of whole subjects. Planted controls "
            f"must reach p <= {power_level(options.alpha):g}."
        ),
        limits="Linear in ranks: a field that tells the label by its spread alone is not seen.",
        n_volumes=len(cohort),
        n_subjects=cohort.n_subjects,
    )
    return finding, result
