"""bench/gpu.py on a CPU: no figure of worth, but every line of it that needs no GPU runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fastgan.ops import certify, implementation
from fastgan.ops.implementations.cpu import norm_act as native

PATH = Path(__file__).resolve().parents[1] / "bench" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastgan_gpu_bench", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def small(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "_SIZES", [(2, 6, 3, 4, 5)])
    # Compiling has tests of its own, and takes longer than all the rest.
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(gpu.stock, "CHANNELS", (4, 4, 4))
    monkeypatch.setattr(certify, "TRIALS", {"norm_act": certify.TRIALS["norm_act"]})
    monkeypatch.setattr(gpu.dispatch, "OPERATORS", ("norm_act",))
    # Not Triton's interpreter: whole critics would take minutes in it.
    monkeypatch.setattr(gpu.dispatch, "implementations", lambda op, x: ["native"])


def run(gpu: ModuleType, folder: Path) -> Any:
    return gpu.main(["--device", "cpu", "--quick", "--out", str(folder)])


def test_dry_run(gpu, tmp_path, capsys) -> None:
    path = run(gpu, tmp_path)
    assert path == tmp_path / "cpu" / "gpu.json"
    report = json.loads(path.read_text())
    assert report["quick"] is True and report["machine"]["torch"] == torch.__version__
    assert report["correctness"]["results"]["norm_act native"]["problems"] == []
    found = {(row["pass"], row["provider"]) for row in report["norm_act"]}
    assert ("second", "native NDHWC") in found and ("backward", "compiled NDHWC") in found
    assert all(row["of copy bandwidth"] > 0 for row in report["norm_act"])
    convolved = {(row["pass"], row["provider"]) for row in report["conv3d"]}
    assert {("input gradient", "native"), ("weight gradient", "cuDNN NDHWC")} <= convolved
    steps = {(row["what"], row["norm"], row["provider"]) for row in report["critic"]}
    assert ("critic step", "instance", "eager NCDHW") in steps
    assert ("penalty", "none", "ours, native") in steps
    assert f"written: {path}" in capsys.readouterr().out


def test_no_time_after_a_wrong_result(gpu, tmp_path, monkeypatch) -> None:
    right = native.norm_act_bwd

    def wrong(*args: Any) -> tuple[torch.Tensor, ...]:
        d_x, d_weight, d_bias = right(*args)
        return 1.01 * d_x, d_weight, d_bias

    monkeypatch.setattr(native, "norm_act_bwd", wrong)
    with pytest.raises(SystemExit, match="no time is printed after these"):
        run(gpu, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_provider_that_differs_stops_it(gpu) -> None:
    gpu.differs([torch.ones(3)], [torch.ones(3)], "same")
    with pytest.raises(SystemExit, match="other differs from ours by 1"):
        gpu.differs([torch.zeros(3)], [torch.ones(3)], "other")


def test_forcing_holds_while_it_runs(gpu) -> None:
    from fastgan.ops.implementations import dispatch

    x = torch.zeros(1, 2, 2, 2, 2)
    with implementation("native"):
        run_it = gpu.forced(lambda: dispatch.choose("norm_act", x), "reference")
        assert run_it() == "reference"
        assert dispatch.choose("norm_act", x) == "native"
