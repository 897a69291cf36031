"""The trials of a certificate, on the CPU: right kernels pass, planted errors do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cpu import bias_act as native_bias_act
from fastgan.ops.implementations.cpu import nearest as native_nearest
from fastgan.ops.implementations.cpu import norm_act as native
from fastgan.ops.proof import certify as trials
from fastgan.ops.proof import error_ratios
from fastgan.ops.proof.certify import certify
from fastgan.ops.tensor_float import tensor_float32
from fastgan.reference import slope_penalty as slope_reference

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_SIZES", [(2, 6, 3, 4, 5), (1, 3, 7, 7, 7)])
    small = ((1, 1, 5, 6, 9), 16, (3, 4, 3), (1, 2, 1), (1, 0, 2))
    monkeypatch.setattr(trials, "_CONVOLUTIONS", [small])


@pytest.mark.parametrize("op", trials.TRIALS)
def test_right_kernels_pass(op: str) -> None:
    result = certify(op, "native", CPU, shapes=4 if op == "nearest" else 1)
    assert result.problems == []
    most = trials.UNITS if op == "slope_penalty" else error_ratios.WORST
    assert all(figure <= most for figure in result.figures.values()) and result.figures


def test_what_it_compares_with_is_float32_and_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def trial(*_: object) -> error_ratios.Result:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return error_ratios.Result({}, [])

    monkeypatch.setitem(trials.TRIALS, "conv3d", trial)
    with tensor_float32(True):
        certify("conv3d", "native", CPU)
        assert torch.backends.cudnn.allow_tf32
    assert seen == [(False, False)]


def test_an_operator_without_a_trial_is_not_certified() -> None:
    assert "no trial of unknown is written" in certify("unknown", "native", CPU).problems[0]


def test_every_operator_with_a_choice_has_a_trial() -> None:
    assert set(trials.TRIALS) == set(dispatch.OPERATORS)


def wrong(kernel: Any, place: int, change: Any) -> Any:
    def planted(*args: Any) -> Any:
        results = list(kernel(*args))
        results[place] = change(results[place])
        return tuple(results)

    return planted


def unwritten(t: torch.Tensor) -> torch.Tensor:
    t.flatten()[-1] = torch.nan
    return t


PLANTED = [
    (native, "norm_act_fwd", 2, lambda rstd: rstd * (1 + 1e-4), "backward"),
    (native, "norm_act_bwd", 1, lambda d_weight: 1.01 * d_weight, "backward"),
    (native, "norm_act_bwd_bwd", 1, lambda d_x: d_x + 1e-3 * torch.rand_like(d_x), "differs"),
    (native, "norm_act_bwd_bwd", 0, unwritten, "second"),
]


@pytest.mark.parametrize(("module", "name", "place", "change", "said"), PLANTED)
def test_planted_errors_are_found(module, name, place, change, said, monkeypatch) -> None:
    monkeypatch.setattr(module, name, wrong(getattr(module, name), place, change))
    problems = certify("norm_act", "native", CPU, shapes=1).problems
    assert any(said in problem for problem in problems)


def test_planted_errors_of_the_others_are_found(monkeypatch) -> None:
    right = native_bias_act.bias_act_bwd
    monkeypatch.setattr(native_bias_act, "bias_act_bwd", lambda *args: 1.001 * right(*args))
    assert certify("bias_act", "native", CPU, shapes=1).problems
    search = native_nearest.nearest
    planted = wrong(search, 1, lambda index: index.flip(1) if index.shape[1] > 1 else 0 * index)
    monkeypatch.setattr(native_nearest, "nearest", planted)
    problems = certify("nearest", "native", CPU, shapes=4).problems
    assert any("other neighbours" in problem for problem in problems)


@pytest.mark.parametrize("seed", range(12))
def test_no_seed_condemns_a_right_penalty(seed: int) -> None:
    assert certify("slope_penalty", "reference", CPU, shapes=seed).problems == []


@pytest.mark.parametrize("name", ["slope_penalty_fwd", "slope_penalty_bwd", "slope_penalty_mix"])
def test_a_wrong_penalty_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(slope_reference, name)

    def planted(*args: Any) -> Any:
        found = right(*args)
        return (1.001 * found[0], found[1]) if isinstance(found, tuple) else 1.001 * found

    monkeypatch.setattr(slope_reference, name, planted)
    assert certify("slope_penalty", "reference", CPU, shapes=4).problems
