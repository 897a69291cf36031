"""Why the CUDA kernels cannot be used, said so that one knows what to install or set."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError, DeviceError
from fastgan.ops import dispatch, native, native_cuda
from fastgan.ops.native_cuda import obstacle

BUILT = {"cuda": "13.0", "cuda_archs": ["80", "90a", "100"], "cuda_reason": None}


def seen(error: str | None = None, code_error: str | None = None) -> dict[str, Any]:
    devices = [] if error else [{"capability": (9, 0), "code_error": code_error}]
    return {"error": error, "driver": 13000, "runtime": 13000, "devices": devices}


def test_no_obstacle() -> None:
    assert obstacle(BUILT, seen(), (9, 0)) is None


def test_driver_too_old() -> None:
    old = {**seen("CUDA driver version is insufficient"), "driver": 12040}
    reason = obstacle(BUILT, old, (9, 0))
    assert (
        reason is not None and "the driver takes CUDA 12.4 and the extension brings 13.0" in reason
    )
    assert "update the driver" in reason
    assert "takes CUDA none" in str(obstacle(BUILT, {**old, "driver": 0}, (9, 0)))


def test_another_error_of_the_runtime() -> None:
    assert "reports: out of memory" in str(obstacle(BUILT, seen("out of memory"), (9, 0)))


def test_architecture_not_built() -> None:
    reason = obstacle(BUILT, seen(code_error="no kernel image is available"), (9, 0))
    assert (
        reason is not None and "has code for 80;90a;100, not for sm_90 (no kernel image" in reason
    )
    assert 'FASTGAN_CUDA_ARCHS="90"' in reason
    assert "sees no GPU of compute capability 7.5" in str(obstacle(BUILT, seen(), (7, 5)))


def test_built_without_cuda(monkeypatch) -> None:
    without = {**BUILT, "cuda": None, "cuda_reason": "nvcc not found"}
    monkeypatch.setattr(native, "build_info", lambda: without)
    native_cuda._unusable.cache_clear()
    reason = native_cuda._unusable(0)
    native_cuda._unusable.cache_clear()
    assert reason is not None and "built without CUDA (nvcc not found)" in reason
    assert "FASTGAN_CUDA=1" in reason


def test_supports_gives_reasons() -> None:
    x = torch.ones(2, 4, 3)
    assert native_cuda.supports("norm_act", x) == "norm_act has native CUDA kernels, got cpu"
    assert native_cuda.supports("fold", x) == "fold has no native kernel for a GPU"


def test_a_failed_launch_is_a_typed_error(monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("bias_act_bwd: an illegal memory access was encountered")

    monkeypatch.setattr(native_cuda, "_kernels", lambda: types.SimpleNamespace(bias_act_bwd=fail))
    monkeypatch.setattr(native_cuda, "_stream", lambda x: 0)
    with pytest.raises(DeviceError, match="bias_act_bwd: an illegal memory access"):
        native_cuda.bias_act_bwd(torch.ones(1, 1), torch.zeros(1, dtype=torch.uint8), 0.2)


@pytest.mark.parametrize("op", native_cuda.OPERATORS)
def test_used_on_a_gpu_only_when_asked_for(op: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(native_cuda, "_unusable", lambda index: None)
    x = types.SimpleNamespace(
        device=torch.device("cuda", 0), dtype=torch.float32, layout=torch.strided, ndim=5
    )
    assert dispatch.choose(op, x) == "reference"  # type: ignore[arg-type]
    with dispatch.implementation("native"):
        assert dispatch.choose(op, x) == "native"  # type: ignore[arg-type]
        assert dispatch.module(op, x) is native_cuda  # type: ignore[arg-type]
        monkeypatch.setattr(native_cuda, "_unusable", lambda index: "the driver is too old")
        with pytest.raises(ConfigError, match="cannot serve this: the driver is too old"):
            dispatch.choose(op, x)  # type: ignore[arg-type]
