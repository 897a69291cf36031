"""Small cohorts whose measured values are known, and what a judge says of them."""

from __future__ import annotations

import numpy as np

from fastgan.audit.evidence import Cohort, Evidence
from fastgan.audit.judgement import Finding, settle

UNIT = (1.0, 1.0, 1.0)
SMALL = (4, 4, 4)
CLASSES = ("a", "b")


def cohort(values, name="training", labels=None) -> Cohort:
    names = np.array([f"{name}-{i}" for i in range(len(values))])
    return Cohort(name, np.asarray(values, np.float32), names, labels)


def evidence(training, holdout, generated, classes=()) -> Evidence:
    return Evidence(
        cohort(training), cohort(holdout, "held-out"), cohort(generated, "generated"), UNIT, classes
    )


def noise(count: int, seed: int, shape=SMALL) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).clip(-3, 3) / 3


def verdict_of(finding: Finding) -> str:
    (one,) = settle([finding], alpha=0.05)
    return one.verdict


def unplanted(finding: Finding) -> str:
    """Of a quick audit, in which what would pass is only not planted."""
    (one,) = settle([finding], alpha=0.05)
    return "pass" if "Power unmeasured" in one.sentence else one.verdict
