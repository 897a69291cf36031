"""Cohorts that nobody planned for are answered, or refused with the reason and the counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import labels, leakage, quality, shortcuts, sites
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Finding, settle
from fastgan.errors import AuditError

QUICK = Options(quick=True, permutations=199)
SHAPE = (8, 8, 8)


def cohort(name: str, count: int, seed: int) -> Cohort:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal((count, *SHAPE)) / 4).clip(-1, 1).astype(np.float32)
    subjects = np.array([f"{name}-{i}" for i in range(count)])
    return Cohort(name, values, subjects, np.arange(count) % 2)


@pytest.fixture
def clean() -> Evidence:
    return Evidence(
        cohort("training", 60, 0),
        cohort("held-out", 40, 1),
        cohort("generated", 60, 2),
        (1.0, 1.0, 1.0),
        ("benign", "malignant"),
    )


def told(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {s.finding.key: (s.verdict, s.sentence) for s in settle(findings, alpha=0.05)}


def with_column(clean: Evidence, name: str, of: Callable[[int], str]) -> Evidence:
    def named(one: Cohort) -> Cohort:
        return replace(one, columns={name: np.array([of(i) for i in range(len(one))])})

    return replace(clean, training=named(clean.training), holdout=named(clean.holdout))


def test_generated_volumes_that_are_all_equal_fail(clean) -> None:
    made = clean.require_generated()
    same = replace(made, values=np.repeat(made.values[:1], len(made), axis=0))
    found = told(quality.judge(replace(clean, generated=same), QUICK))
    assert found["quality.repetition"][0] == "fail"
    assert found["quality.kinds"][0] == "warn" and found["quality.diversity"][0] == "warn"
    assert "pass" not in {verdict for key, (verdict, _) in found.items() if key != "quality.blank"}


def test_a_hold_out_of_one_class_refuses_labels_and_amplification(clean) -> None:
    one = replace(clean, holdout=replace(clean.holdout, labels=np.zeros(40, np.int64)))
    with pytest.raises(AuditError, match="0 held-out subjects of class malignant"):
        labels.judge(one, QUICK)
    found = told(shortcuts.judge(one, QUICK))
    verdict, sentence = found["shortcuts.amplification"]
    assert verdict == "cannot tell" and "the held-out volumes have one class" in sentence


def test_a_site_with_one_patient_is_left_out_and_named(clean) -> None:
    case = with_column(
        clean, "site", lambda i: "tiny" if i == 0 else ("north", "south")[i // 2 % 2]
    )
    case = replace(case, holdout=replace(case.holdout, columns={"site": np.full(40, "north")}))
    (finding,) = sites.judge(case, QUICK)
    assert finding.p is not None and "Too few subjects to be judged: tiny 1" in (
        finding.accepted.sentence
    )


def test_every_patient_at_another_site_cannot_be_compared(clean) -> None:
    case = with_column(clean, "site", lambda i: f"hospital {i}")
    with pytest.raises(AuditError, match=r"two sites .* of at least 10 subjects.* and 54 more"):
        sites.judge(case, QUICK)
    found = told(shortcuts.judge(case, QUICK))
    assert found["shortcuts.columns"][0] == "cannot tell"
    assert "no manifest column has two values of at least 10" in found["shortcuts.columns"][1]
    # Nothing tells scanners apart, so marks are looked for between classes.
    assert "differs between the classes" in found["shortcuts.marks"][1]


def test_more_sites_than_a_fifth_of_the_patients_are_too_many(clean) -> None:
    case = with_column(clean, "site", lambda i: f"hospital {i % 15}")
    with pytest.raises(AuditError, match="hospital 0 7"):  # four of 60, three of 40
        sites.judge(case, QUICK)
    found = told(leakage.judge(case, QUICK))
    assert found["leakage.sites"][0] == "cannot tell"


def test_free_text_is_no_column_of_levels(clean) -> None:
    case = with_column(clean, "remark", lambda i: f"patient came back on day {i * i}")
    found = told(shortcuts.judge(case, QUICK))
    verdict, sentence = found["shortcuts.columns"]
    assert verdict == "cannot tell" and "two values of at least 10 subjects" in sentence


@pytest.mark.parametrize("value", ["", "mr"])
def test_constant_columns_are_not_asked(clean, value) -> None:
    case = with_column(clean, "modality", lambda _: value)
    found = told(shortcuts.judge(case, QUICK))
    verdict, sentence = found["shortcuts.columns"]
    assert verdict == "not asked" and "no manifest column has two values" in sentence
