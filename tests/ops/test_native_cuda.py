"""Why the CUDA kernels cannot be used, said so that one knows what to install or set."""

from __future__ import annotations

import types

import pytest
import torch

from fastgan.errors import ConfigError, DeviceError
from fastgan.ops import dispatch, native_cuda, native_cuda_conv3d
from fastgan.ops.native_cuda import obstacle

BUILT = {"cuda": "13.0", "cuda_archs": ["80", "90a", "100"], "cuda_reason": None}
FITTING = (13000, 13000)


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (10, 0), (10, 3), (12, 0)])
def test_no_obstacle(capability: tuple[int, int]) -> None:
    assert obstacle(BUILT, FITTING, capability) is None


def test_driver_too_old() -> None:
    reason = obstacle(BUILT, (12040, 13000), (9, 0))
    assert reason is not None
    assert "the driver takes CUDA 12.4 and the extension brings 13.0" in reason
    assert "update the driver" in reason
    assert "takes CUDA none" in str(obstacle(BUILT, (0, 13000), (9, 0)))


@pytest.mark.parametrize(
    ("archs", "capability"), [(["80", "90a", "100"], (7, 5)), (["90a"], (8, 6)), (["120"], (10, 0))]
)
def test_architecture_not_built(archs: list[str], capability: tuple[int, int]) -> None:
    reason = obstacle({**BUILT, "cuda_archs": archs}, FITTING, capability)
    name = "{}{}".format(*capability)
    assert reason is not None
    assert f"has code for {';'.join(archs)}, which does not run on sm_{name}" in reason
    assert f'FASTGAN_CUDA_ARCHS="{name}"' in reason


def test_built_without_cuda() -> None:
    without = {**BUILT, "cuda": None, "cuda_reason": "nvcc not found"}
    reason = obstacle(without, (0, 0), (9, 0))
    assert reason is not None and "built without CUDA (nvcc not found)" in reason
    assert "FASTGAN_CUDA=1" in reason


def test_supports_gives_reasons() -> None:
    x = torch.ones(2, 4, 3)
    assert native_cuda.supports("norm_act", x) == "norm_act has native CUDA kernels, got cpu"
    assert native_cuda.supports("fold", x) == "fold has no native kernel for a GPU"


def test_a_failed_launch_is_a_typed_error(monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("bias_act_bwd: an illegal memory access was encountered")

    monkeypatch.setattr(native_cuda, "kernels", lambda: types.SimpleNamespace(bias_act_bwd=fail))
    monkeypatch.setattr(native_cuda, "stream", lambda x: 0)
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
        own = {"conv3d": native_cuda_conv3d}.get(op, native_cuda)
        assert dispatch.module(op, x) is own  # type: ignore[arg-type]
        monkeypatch.setattr(native_cuda, "_unusable", lambda index: "the driver is too old")
        with pytest.raises(ConfigError, match="cannot serve this: the driver is too old"):
            dispatch.choose(op, x)  # type: ignore[arg-type]
