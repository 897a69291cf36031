"""Where generated volumes do nothing, a study says so as often as it promises."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fastgan.audit.statistics import clopper_pearson
from fastgan.utility.corrected_t import corrected_t

ROOT = Path(__file__).resolve().parents[2]
STUDIES = 300


@pytest.fixture(scope="module")
def errors() -> ModuleType:
    path = ROOT / "bench" / "studies" / "utility_errors.py"
    spec = importlib.util.spec_from_file_location("fastgan_utility_errors", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_size_without_an_effect_is_not_above_nominal(errors: ModuleType) -> None:
    found = errors.size(STUDIES, folds=5, seeds=1)
    for name, nominal in (
        ("helps", 0.025),
        ("harms", 0.025),
        ("one comparison, corrected", 0.05),
        ("a group is harmed", 0.0125),
    ):
        low, _ = clopper_pearson(found[name]["found"], STUDIES, side="lower")
        assert low <= nominal, f"{name}: {found[name]}"
        assert found[name]["studies"] == STUDIES
    # What the correction is for: the plain test is wrong far more often.
    assert found["paired t"]["found"] > found["one comparison, corrected"]["found"]


def test_a_large_effect_is_found(errors: ModuleType) -> None:
    found = errors.power(12, folds=10, gain=0.45)
    assert found["auc_gained"] > 0.12
    assert found["share"] >= 0.5


def test_the_group_that_loses_is_named(errors: ModuleType) -> None:
    found = errors.group_power(10, lost=0.35)
    assert found["named"]["share"] >= 0.7
    assert found["passed"]["found"] == 0


def test_one_group_not_inferior_is_said_too_often_at_most_as_promised() -> None:
    # Two folds of equal sizes at the margin's own loss: a bound that clears it is wrong.
    from fastgan.utility.subgroups import judge_groups

    wrong = 0
    for number in range(STUDIES):
        rng = np.random.default_rng(number)
        truth = np.arange(120) % 2 == 0
        real = rng.standard_normal((1, 120)) + 1.5 * truth
        # Equal information, independent noise, and 0.06 less AUC in truth: 0.856 to 0.796.
        arm = rng.standard_normal((1, 120)) + 1.17 * truth
        table = judge_groups(
            [arm],
            [real],
            [truth],
            [np.array([f"p{i}" for i in range(120)])],
            {"site": [["AB"[i // 60] for i in range(120)]]},
            margin=0.059,
            level=0.025,
            rng=rng,
        )
        wrong += any(g.standing == "not worse" for g in table.groups)
    assert clopper_pearson(wrong, STUDIES, side="lower")[0] <= 0.025


def test_the_plain_t_of_folds_is_what_the_correction_widens() -> None:
    d = np.random.default_rng(0).standard_normal(5)
    plain = d.std(ddof=1) / np.sqrt(5)
    assert corrected_t(d, 0.25).error == pytest.approx(plain * np.sqrt(2.25))
