from __future__ import annotations

import importlib
import re
import threading
import types

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.ops import implementation, norm_act
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.dispatch import TABLE, choose, report

X = torch.randn(2, 3, 2, 2, 2)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTGAN_IMPL", raising=False)


@pytest.fixture(params=["available", "missing"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels of norm_act with and without their extension."""
    reason = None if request.param == "available" else "fastgan._C cannot be imported: gone"
    for place in ("cpu", "cuda"):
        module = importlib.import_module(TABLE["norm_act", "native", place])
        monkeypatch.setattr(module, "supports", lambda x: reason)
    return request.param


def test_auto_takes_native_where_it_can(native) -> None:
    assert choose("norm_act", X) == ("native" if native == "available" else "reference")


def test_forced_and_nested(native) -> None:
    with implementation("reference"):
        assert choose("norm_act", X) == "reference"
        with implementation("auto"):
            assert choose("norm_act", X) == ("native" if native == "available" else "reference")
        assert choose("norm_act", X) == "reference"


def test_forced_native_that_is_missing(native) -> None:
    with implementation("native"):
        if native == "available":
            assert choose("norm_act", X) == "native"
        else:
            with pytest.raises(
                ConfigError, match=r"'native' cannot serve this: fastgan\._C cannot"
            ):
                choose("norm_act", X)


def test_forced_triton_has_a_reason() -> None:
    with implementation("triton"), pytest.raises(ConfigError, match="has Triton kernels for"):
        norm_act(X.half(), num_groups=3)


def test_forced_name_that_an_operator_lacks_leaves_it_alone(native) -> None:
    before = choose("bias_act", X)
    with implementation("triton"):
        assert choose("bias_act", X) == before


def test_environment(monkeypatch) -> None:
    monkeypatch.setenv("FASTGAN_IMPL", "reference")
    assert choose("norm_act", X) == "reference"
    monkeypatch.setenv("FASTGAN_IMPL", "fastest")
    with pytest.raises(ConfigError, match=r"FASTGAN_IMPL: must be one of .*, got 'fastest'"):
        choose("norm_act", X)
    with implementation("reference"):
        assert choose("norm_act", X) == "reference"


def test_rejects_unknown_name() -> None:
    with pytest.raises(ConfigError, match="implementation: must be one of auto, reference"):
        implementation("cuda").__enter__()


def test_restored_after_an_error() -> None:
    with pytest.raises(KeyError), implementation("triton"):
        raise KeyError
    assert choose("norm_act", X) in ("native", "reference")


def test_holds_in_other_threads() -> None:
    seen = []
    with implementation("reference"):
        thread = threading.Thread(target=lambda: seen.append(choose("norm_act", X)))
        thread.start()
        thread.join()
    assert seen == ["reference"]


def test_auto_keeps_away_from_uncertified_gpus(native, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    x = types.SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    assert choose("norm_act", x) == "reference"  # type: ignore[arg-type]
    reason = dispatch._obstacle("norm_act", "native", x, auto=True)  # type: ignore[arg-type]
    certified = "not certified on sm_90: run `fastgan bench --certify`"
    assert reason == (certified if native == "available" else "fastgan._C cannot be imported: gone")


def test_report_names_every_operator(native) -> None:
    rows = report()
    names = {"bias_act", "conv3d", "conv_transpose3d", "gradient_penalty", "nearest", "norm_act"}
    assert {row.op for row in rows} >= {*names, "norm_act_conv"}
    assert all(row.reason for row in rows)
    by_name = {row[:3]: row for row in rows}
    found = by_name["norm_act", "native", "cpu"]
    assert found.available == found.used == (native == "available")
    assert by_name["norm_act", "triton", "cpu"].available is False
    assert by_name["norm_act", "reference", "cpu"].used == (native == "missing")


@pytest.mark.parametrize("key", TABLE, ids=" ".join)
def test_each_implementation_says_what_it_serves(key: tuple[str, str, str]) -> None:
    module = importlib.import_module(TABLE[key])
    assert module.SERVES
    if key[1] != "reference":
        named = {str(dtype).removeprefix("torch.") for dtype in module.DTYPES}
        assert named <= set(re.findall(r"\w+", module.SERVES))


def test_report_prints_what_the_module_says(monkeypatch) -> None:
    found = [row for row in report() if row.available and row.op in dispatch.OPERATORS]
    assert {row.implementation for row in found} >= {"native", "reference"}
    modules = []
    for row in found:
        place = "any" if row.implementation == "reference" else row.device
        modules.append(importlib.import_module(TABLE[row.op, row.implementation, place]))
        assert row.reason == modules[-1].SERVES
    for module in modules:
        monkeypatch.setattr(module, "SERVES", f"planted for {module.__name__}")
    planted = [row for row in report() if row.available and row.op in dispatch.OPERATORS]
    assert [row.reason for row in planted] == [f"planted for {m.__name__}" for m in modules]


def test_forced_name_that_a_device_lacks_leaves_it_alone(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    gpu = types.SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    with implementation("native"):
        assert choose("slope_penalty", X) == "reference"
        assert choose("fold", gpu) == "reference"  # type: ignore[arg-type]
