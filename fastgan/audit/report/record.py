"""The record, report.json, says what an audit found, by a schema that programs may rely on."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastgan
from fastgan.audit.evidence import Cohort
from fastgan.audit.judgement import Control, Settled, Table, Verdict
from fastgan.audit.report.scorecard import CriterionRecord, scorecard
from fastgan.audit.run import Audit

__all__ = [
    "NAMELESS",
    "SCHEMA",
    "STATEMENTS",
    "CohortRecord",
    "FindingRecord",
    "Record",
    "record_of",
    "schema",
]

SCHEMA = "fastgan-audit/2"
"""Changes when a field changes its meaning or goes; new fields keep it."""

STATEMENTS = (
    "Research use only. Not a medical device.",
    "Not a privacy guarantee: what was not found may still be there.",
    "A pass says that no evidence was found, by tests that would have found it as stated.",
)

NAMELESS = (
    "The data do not name their subjects. Every file counts as a patient of its own; where "
    "patients have several, intervals and p-values here are too small."
)


@dataclass(frozen=True)
class CohortRecord:
    """How much there was of one kind of volumes."""

    name: str
    volumes: int
    subjects: int
    classes: dict[str, int]


@dataclass(frozen=True)
class FindingRecord:
    """One line of the verdict table with all behind it but the pictures; see `Finding`."""

    key: str
    judgement: str
    question: str
    verdict: Verdict
    sentence: str
    value: float | None
    value_name: str
    interval: tuple[float | None, float | None] | None
    """An end without a bound is null."""
    floor: float | None
    floor_name: str
    p: float | None
    p_adjusted: float | None
    n_volumes: int
    n_subjects: int
    power: str
    """"" where no fault was planted that had to be found."""
    by_construction: str
    """Why none had to be, or ""."""
    controls: tuple[Control, ...]
    tables: tuple[Table, ...]
    methods: str
    limits: str


@dataclass(frozen=True)
class Record:
    """The whole of report.json."""

    schema: str
    software: str
    created: str
    """UTC, ISO 8601."""
    verdict: Verdict
    exit_code: int
    statements: tuple[str, ...]
    about: dict[str, str]
    options: dict[str, Any]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    cohorts: tuple[CohortRecord, ...]
    findings: tuple[FindingRecord, ...]
    seconds: dict[str, float]
    scorecard: tuple[CriterionRecord, ...] = ()
    """Criteria that reviewers ask for, and the findings that answer them."""

    def as_json(self) -> bytes:
        """UTF-8 with sorted keys; NaN and infinity, which JSON does not have, become null."""
        from pydantic import TypeAdapter

        content = TypeAdapter(Record).dump_python(self, mode="json")
        text = json.dumps(_finite(content), indent=1, sort_keys=True, ensure_ascii=False)
        return (text + "\n").encode()

    @classmethod
    def read(cls, path: Path) -> Record:
        """A report.json as it was written.

        Raises:
            pydantic.ValidationError: not of this schema.
        """
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_json(path.read_bytes())


def record_of(audit: Audit, *, patient: bool = False) -> Record:
    """The record of an audit.

    Args:
        audit: what `audit` returned.
        patient: keep tables that name patients.
    """
    evidence = audit.evidence
    cohorts = (evidence.training, evidence.holdout, evidence.generated, evidence.target)
    d, h, w = (int(n) for n in evidence.training.values.shape[1:])
    options, used = audit.options, evidence.augmentations
    return Record(
        schema=SCHEMA,
        software=f"fastgan {fastgan.__version__}",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        verdict=audit.verdict,
        exit_code=audit.exit_code,
        statements=(*STATEMENTS, *([NAMELESS] if evidence.nameless else [])),
        about=dict(evidence.about),
        options={
            "seed": options.seed,
            "quick": options.quick,
            "alpha": options.alpha,
            "planted": options.planted,
            "permutations": options.permutations,
            "augmentations": None if used is None else list(used),
            "modality": evidence.modality,
        },
        shape=(d, h, w),
        spacing=evidence.spacing,
        cohorts=tuple(_counted(c, evidence.classes) for c in cohorts if c is not None),
        findings=tuple(_finding(one, patient) for one in audit.settled),
        seconds={name: round(value, 1) for name, value in audit.seconds.items()},
        scorecard=scorecard(audit.settled),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of report.json (draft 2020-12)."""
    from pydantic import TypeAdapter

    described = TypeAdapter(Record).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **described}


def _counted(cohort: Cohort, classes: tuple[str, ...]) -> CohortRecord:
    counts: dict[str, int] = {}
    if cohort.labels is not None:
        numbers = np.bincount(cohort.labels, minlength=len(classes))
        counts = {name: int(count) for name, count in zip(classes, numbers, strict=True)}
    return CohortRecord(cohort.name, len(cohort), cohort.n_subjects, counts)


def _finding(one: Settled, patient: bool) -> FindingRecord:
    f = one.finding
    return FindingRecord(
        key=f.key,
        judgement=f.judgement,
        question=f.question,
        verdict=one.verdict,
        sentence=one.sentence,
        value=f.value,
        value_name=f.value_name,
        interval=f.interval,
        floor=f.floor,
        floor_name=f.floor_name,
        p=f.p,
        p_adjusted=one.p_adjusted,
        n_volumes=f.n_volumes,
        n_subjects=f.n_subjects,
        power=f.power if any(c.expected == "found" for c in f.controls) else "",
        by_construction=f.by_construction,
        controls=f.controls,
        tables=tuple(table for table in f.tables if patient or not table.patient),
        methods=f.methods,
        limits=f.limits,
    )


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return content
