"""An audit of one finding, for the tests of its report."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Control, Figure, Finding, Outcome, Table, settle
from fastgan.audit.run import Audit

PNG = b"\x89PNG\r\n\x1a\nnot a picture"


FINDING = Finding(
    "memorization",
    "memorization.copies",
    "Is any generated volume a copy of a patient?",
    Outcome("pass", "No evidence of copies found among 4 volumes <of 4>."),
    Outcome("fail", "Copies found."),
    p=0.4,
    value=0.8125,
    value_name="smallest distance ratio",
    interval=(0.7, float("inf")),
    floor=0.79,
    n_volumes=4,
    n_subjects=3,
    power="one copy in 1,000 at noise 0.1 with power 0.98",
    controls=(Control("copy at noise 0.1", "found", 0.98, (0.95, 1.0), 300, held=True),),
    tables=(
        Table("Power", ("noise", "found"), ((0.1, 0.98), (0.5, float("nan")))),
        Table("Flagged", ("volume", "patient"), ((3, "LIDC-0001"),), patient=True),
    ),
    figures=(
        Figure("Power", "By noise.", PNG),
        Figure("Flagged pairs", "Beside the patient.", PNG + b"patient", patient=True),
    ),
    methods="r = d1 / mean(d2..d10).",
    limits="Nothing of rotated copies.",
)


@pytest.fixture
def found() -> Audit:
    def cohort(name: str, count: int) -> Cohort:
        values = np.zeros((count, 2, 3, 4), np.float32)
        names = np.array([f"{name}-{i // 2}" for i in range(count)])
        return Cohort(name, values, names, np.arange(count) % 2)

    evidence = Evidence(
        cohort("training", 6),
        cohort("held-out", 4),
        cohort("generated", 4),
        spacing=(1.5, 1.5, 2.0),
        classes=("benign", "malignant"),
        augmentations=("flip",),
        about={"run": "00000-demo"},
    )
    settled = settle([FINDING], alpha=0.05)
    return Audit(evidence, Options(), tuple(settled), {"memorization": 1.23}, {})
