"""Where many patients are much alike, that alone is no repetition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Settled, settle
from fastgan.audit.quality.repetition import judge_repetition
from fastgan.data.bundled import read_lidc

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def nodules() -> Evidence:
    """The bundled nodules: many small ones beside a few large; unseen patients are generated."""
    archive = read_lidc((32, 32, 32), False)
    subjects = np.array([item.subject for item in archive.items])
    values = archive.arrays.astype(np.float32)
    values = 2 * values / values.max() - 1
    people = RNG(0).permutation(np.unique(subjects))[:480]

    def cohort(name: str, who: np.ndarray) -> Cohort:
        chosen = np.isin(subjects, who)
        return Cohort(name, values[chosen], subjects[chosen])

    training, holdout, unseen = np.split(people, (200, 300))
    made = cohort("generated", unseen)
    made = dataclasses.replace(made, subjects=np.array([f"g{i}" for i in range(len(made))]))
    return Evidence(
        cohort("training", training), cohort("held-out", holdout), made, (1.5,) * 3, (), "mask"
    )


def judged(evidence: Evidence) -> Settled:
    return settle([judge_repetition(evidence, Options(planted=20))], alpha=0.05)[0]


def test_small_nodules_that_are_much_alike_are_no_repeats(nodules: Evidence) -> None:
    one = judged(nodules)
    quiet = next(c for c in one.finding.controls if c.expected == "quiet")
    assert quiet.held and quiet.rate <= 0.05, quiet
    assert one.verdict == "pass", one.sentence


@pytest.mark.parametrize("distinct", [20, 60])
def test_nodules_that_are_repeated_fail(nodules: Evidence, distinct: int) -> None:
    made = nodules.require_generated()
    values = made.values[np.arange(len(made)) % distinct]
    values = values + 0.02 * values.std() * RNG(1).standard_normal(values.shape)
    repeated = dataclasses.replace(made, values=values.astype(np.float32))
    one = judged(dataclasses.replace(nodules, generated=repeated))
    assert one.verdict == "fail", one.sentence
    assert one.finding.value < 2 * distinct
