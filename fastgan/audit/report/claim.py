"""CLAIM 2024, the checklist for articles on AI in medical imaging, as far as run and audit know.

What neither knows is left to the authors, never invented.

Source: Tejani et al. 2024, "Checklist for artificial intelligence in medical imaging (CLAIM): 2024
update".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastgan.audit.report.fact import NOBODY, Fact, Facts
from fastgan.audit.report.record import NAMELESS, CohortRecord, Record

__all__ = ["ITEMS", "TO_FILL_IN", "claim"]

TO_FILL_IN = "to be filled in by the authors"
AUDIT = "this audit"
ITEMS = (
    "Identification as a study of AI, with the kind of technology",
    "Structured summary",
    "Background, intended use and role of the AI",
    "Aims, objectives and hypotheses",
    "Prospective or retrospective",
    "Goal of the study",
    "Data sources",
    "Inclusion and exclusion criteria",
    "Preprocessing of data",
    "Selection of subsets of the data",
    "De-identification",
    "How missing data were handled",
    "Protocol of image acquisition",
    "How the reference standard was obtained",
    "Rationale for the reference standard",
    "Source of the annotations",
    "Annotation of the test set",
    "Variability between and within raters",
    "How data were assigned to partitions",
    "Level at which partitions are disjoint",
    "Intended sample size",
    "Detailed description of the model",
    "Software libraries, frameworks and packages",
    "Initialization of parameters",
    "Details of the training",
    "How the final model was selected",
    "Ensembling",
    "Metrics of performance",
    "Measures of significance and uncertainty",
    "Analysis of robustness or sensitivity",
    "Methods for explainability or interpretability",
    "Evaluation on internal data",
    "Testing on external data",
    "Registration of a clinical trial",
    "Numbers of patients included and excluded",
    "Demographic and clinical characteristics of each partition",
    "Performance and its uncertainty",
    "Estimates of diagnostic performance and their precision",
    "Analysis of failures",
    "Limitations of the study",
    "Implications for practice, intended use and role",
    "Reference to the full protocol or to technical details",
    "Availability of software, trained model and data",
    "Funding and the role of funders",
)
"""What each asks, in short; the first is number 1."""


class Answer(NamedTuple):
    """What is said, and by whom."""

    value: str
    by: str


def claim(record: Record, facts: Facts) -> tuple[Fact, ...]:
    """All 44 items, with the answer and who says so, or that the authors have to fill it in."""
    known = {f.what: f for f in (*facts.model, *facts.data) if f.by != NOBODY}
    answers = _of_the_run(record, known) | _of_the_audit(record)
    return tuple(
        Fact(f"{number}. {item}", *answers.get(number, Answer(TO_FILL_IN, "")))
        for number, item in enumerate(ITEMS, 1)
    )


def _of_the_run(record: Record, known: Mapping[str, Fact]) -> dict[int, Answer]:
    out: dict[int, Answer] = {}
    for number, names in (
        (7, ("source",)),
        (19, ("held out",)),
        (22, ("variant", "networks")),
        (25, ("objective", "penalty", "steps", "batch size", "precision", "augmentation")),
    ):
        said = [known[name] for name in names if name in known]
        if said:
            out[number] = Answer("; ".join(f"{f.what} {f.value}" for f in said), said[0].by)
    if "seed" in known:
        seed = known["seed"]
        out[24] = Answer(f"drawn at random, seed {seed.value}", seed.by)
    if "checkpoint" in record.about:
        step, of = record.about.get("step", "?"), record.about["checkpoint"]
        out[26] = Answer(f"checkpoint {of} of step {step}; why this one: {TO_FILL_IN}", AUDIT)
    return out


def _of_the_audit(record: Record) -> dict[int, Answer]:
    size = " x ".join(map(str, record.shape)), " x ".join(f"{s:g}" for s in record.spacing)
    named = NAMELESS not in record.statements
    counts = "; ".join(f"{c.name}: {_counted(c)}" for c in record.cohorts)
    held = [_counted(c) for c in record.cohorts if c.name == "held-out"]
    classes = [
        f"{c.name}: {', '.join(f'{name} {count}' for name, count in c.classes.items())}"
        for c in record.cohorts
        if c.classes
    ]
    bad = [f"{f.key} ({f.verdict})" for f in record.findings if f.verdict in ("fail", "warn")]
    said = {
        9: f"brought to {size[0]} voxels of {size[1]} mm, values between -1 and 1",
        13: f"{record.options['modality']}; protocol: {TO_FILL_IN}",
        20: (
            "subject; leakage.subjects and leakage.duplicates look for slips"
            if named
            else "file: the data do not name their subjects"
        ),
        23: record.software,
        28: "the questions in the table above; what each value is: report.json",
        29: (
            "95 % intervals and permutations with the subject as unit; p-values corrected over "
            f"the audit (Holm, {record.options['alpha']:g})"
        ),
        30: _planted(record),
        32: f"held-out: {'; '.join(held)}" if held else "no patients were held out",
        35: f"{counts}; excluded: {TO_FILL_IN}",
        36: "; ".join([*classes, f"all else: {TO_FILL_IN}"]),
        37: "report.json: value, interval, floor and p-value of each question",
        39: ", ".join(bad) or "no judgement ended in a warning or a failure",
        40: "report.html: below each answer, what it does not say; of the study: " + TO_FILL_IN,
        41: f"Meant for, above; for practice: {TO_FILL_IN}",
    }
    return {number: Answer(value, AUDIT) for number, value in said.items()}


def _counted(cohort: CohortRecord) -> str:
    if cohort.name == "generated":  # each is a subject of its own
        return f"{cohort.volumes} volumes"
    return f"{cohort.volumes} volumes of {cohort.subjects} subjects"


def _planted(record: Record) -> str:
    controls = [c for f in record.findings for c in f.controls]
    if not controls:
        return "no fault was planted"
    planted = sum(c.expected == "found" for c in controls)
    held = sum(c.held for c in controls)
    return (
        f"{planted} planted fault{'s' * (planted != 1)} and {len(controls) - planted} "
        f"without a fault, of which {held} held"
    )
