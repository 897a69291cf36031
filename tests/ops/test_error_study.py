"""A sample of the error study: `make error-study` runs 500 shapes of each operator."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch


def _loaded() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "bench" / "studies" / "error_study.py"
    spec = importlib.util.spec_from_file_location("error_study", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDY = _loaded()


@pytest.mark.parametrize("dtype", STUDY.DTYPES, ids=str)
@pytest.mark.parametrize("name", STUDY.OPERATORS)
def test_errors_are_no_larger_than_pytorchs(name: str, dtype: torch.dtype) -> None:
    found = STUDY.study(name, dtype, shapes=40, seed=1)
    assert found.worst <= STUDY.WORST, found.worst_shape
    assert found.mean <= STUDY.GOALS[dtype]
    # Of few numbers one ratio is chance; of all shapes together it is not.
    assert found.few <= STUDY.WORST_OF_FEW


def test_nan_of_ours_is_told_and_of_pytorchs_compares_nothing(monkeypatch) -> None:
    found = iter(([0.1, float("nan"), 0.1], [0.1, 0.1, float("nan")]))
    monkeypatch.setattr(STUDY, "worst", lambda *_: next(found))
    monkeypatch.setattr(STUDY, "products", lambda *_: [torch.zeros(100)] * 3)
    case = STUDY.OPERATORS["bias_act"](np.random.default_rng(0))
    errors = STUDY.both_errors(case, torch.float32)
    assert errors == [(0.1, 0.1, True), (float("inf"), 0.1, True)]
