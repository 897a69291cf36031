"""The trials at sizes of production, on the CPU at small ones: right kernels pass, wrong do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cpu import bias_act as native_bias_act
from fastgan.ops.implementations.cpu import conv3d as native_conv3d
from fastgan.ops.implementations.cpu import nearest as native_nearest
from fastgan.ops.implementations.cpu import norm_act as native_norm_act
from fastgan.ops.proof import certify, production
from fastgan.ops.proof.error_ratios import WORST

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = [((1, 8, 6, 6, 6), 8), ((1, 12, 5, 5, 5), 3)]
    monkeypatch.setattr(production, "VOLUMES", volumes)
    monkeypatch.setattr(production, "BEYOND", (3, 4, 5, 5, 5))
    sizes = {"conv3d": (2, 1, 10, 16, 4, 2), "conv3d_channels": (1, 16, 5, 16, 3, 1)}
    sizes["norm_act_conv"] = (1, 16, 6, 16, 4, 2)
    monkeypatch.setattr(production, "CONVOLUTIONS", sizes)
    monkeypatch.setattr(production, "NEIGHBOURS", (3, 9, 500))
    monkeypatch.setattr(certify, "_SIZES", [(2, 6, 3, 4, 5)])


def large(op: str) -> certify.Result:
    with dispatch.implementation("native"):
        return production.LARGE[op](CPU)


@pytest.mark.parametrize("op", production.LARGE)
def test_right_kernels_pass(op: str) -> None:
    found = large(op)
    assert found.problems == []
    assert found.figures and all(0 <= figure <= WORST for figure in found.figures.values())
    assert all("large" in key or "beyond" in key for key in found.figures)


def test_every_kernel_of_a_gpu_has_one() -> None:
    assert {op for op, name, place in dispatch.TABLE if place == "cuda"} == set(production.LARGE)


def test_certify_runs_both_halves() -> None:
    small = certify.certify("bias_act", "native", CPU, shapes=1)
    both = certify.certify("bias_act", "native", CPU, shapes=1, large=True)
    assert small.figures.keys() < both.figures.keys()
    assert "beyond 2^31 elements worst" in both.figures and both.problems == []


def planted(kernel: Any, place: int, change: Any) -> Any:
    def wrong(*args: Any) -> Any:
        results = kernel(*args)
        if not isinstance(results, tuple):
            return change(results)
        return (*results[:place], change(results[place]), *results[place + 1 :])

    return wrong


def last_unwritten(t: torch.Tensor) -> torch.Tensor:
    t = t.clone()
    t[(-1,) * t.dim()] = torch.nan
    return t


def second_sample_again(t: torch.Tensor) -> torch.Tensor:
    """As an offset that overflows would: the last of many samples is another one."""
    return torch.cat([t[:-1], t[:1]]) if len(t) == 3 else t


PLANTED = [
    ("norm_act", native_norm_act, "norm_act_bwd_bwd", 1, last_unwritten, "second"),
    ("norm_act", native_norm_act, "norm_act_fwd", 0, second_sample_again, "from the sample alone"),
    ("bias_act", native_bias_act, "bias_act_fwd", 0, second_sample_again, "sample 2 of"),
    ("bias_act", native_bias_act, "bias_act_bwd", 0, lambda t: 1.01 * t, "backward"),
    ("conv3d", native_conv3d, "single_wgrad", 0, lambda t: 1.001 * t, "wgrad"),
    ("nearest", native_nearest, "nearest", 1, lambda t: t.roll(1, 1), "other neighbours"),
]


@pytest.mark.parametrize(("op", "module", "name", "place", "change", "said"), PLANTED)
def test_planted_errors_are_found(op, module, name, place, change, said, monkeypatch) -> None:
    monkeypatch.setattr(module, name, planted(getattr(module, name), place, change))
    problems = large(op).problems
    assert any(said in problem for problem in problems), problems


def test_what_the_memory_does_not_hold_is_cut_and_said(monkeypatch) -> None:
    monkeypatch.setattr(
        production, "_free", lambda device: 8 * 6 * 6 * 6 * 8 * production.COPIES / 3
    )
    assert production._fitting((1, 8, 6, 6, 6), CPU) == (1, 8, 1, 6, 6)
    monkeypatch.setattr(production, "_free", lambda device: 2 * 3 * 4 * 125 * production.OWN - 1)
    found = large("bias_act")
    assert found.problems == [] and found.figures["beyond 2^31 elements, left out"] == 1


def test_no_voxel_lies_at_the_kink() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1).repeat(1, 2, 1, 1, 1)
    weight, bias = torch.ones(2), torch.tensor([1.0, 0.5])
    z = torch.nn.functional.group_norm(x.double(), 2)
    bias[0] = -z[0, 0, 1].item()
    found = production.off_the_kink(draw, x, weight, bias, 2)
    assert found[1] == 0.5 and found[0] != bias[0]
