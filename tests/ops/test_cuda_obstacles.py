"""Why the CUDA kernels cannot be used, said so that one knows what to install or set."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError, DeviceError
from fastgan.ops import conv3d_passes
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cuda import bias_act, conv3d, device, launch, norm_act
from fastgan.ops.implementations.cuda.device import obstacle

BUILT = {"cuda": "13.0", "cuda_archs": ["80", "90a", "100"], "cuda_reason": None}
FITTING = (13000, 13000)
ON_GPU = [op for op, name, place in dispatch.TABLE if (name, place) == ("native", "cuda")]


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (9, 0), (10, 0), (10, 3), (12, 0)])
def test_no_obstacle(capability: tuple[int, int]) -> None:
    assert obstacle(BUILT, FITTING, capability) is None


def test_driver_too_old() -> None:
    reason = obstacle(BUILT, (12040, 13000), (9, 0))
    assert reason is not None
    assert "the driver takes CUDA 12.4 and the extension brings 13.0" in reason
    assert "update the driver" in reason
    assert "takes CUDA none" in str(obstacle(BUILT, (0, 13000), (9, 0)))


def test_older_driver_of_the_same_major_version_runs_machine_code_alone() -> None:
    older = (13000, 13010)
    assert obstacle(BUILT, older, (9, 0)) is None
    assert obstacle(BUILT, older, (10, 3)) is None
    reason = obstacle(BUILT, older, (12, 0))
    assert reason is not None
    assert "takes CUDA 13.0 and cannot compile the PTX of 13.1 that sm_120 needs" in reason
    assert "update the driver" in reason and 'FASTGAN_CUDA_ARCHS="120"' in reason
    assert obstacle(BUILT, (13010, 13000), (12, 0)) is None


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
    assert norm_act.supports(x) == "norm_act has native kernels for GPUs, got cpu"
    reason = dispatch._obstacle("fold", "native", pretended("cuda:0"), auto=False)
    assert reason == "fold has no native kernel for a GPU"


def test_a_failed_launch_is_a_typed_error(monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("bias_act_bwd: an illegal memory access was encountered")

    monkeypatch.setattr(launch, "kernels", lambda: types.SimpleNamespace(bias_act_bwd=fail))
    monkeypatch.setattr(launch, "stream", lambda x: 0)
    with pytest.raises(DeviceError, match="bias_act_bwd: an illegal memory access"):
        bias_act.bias_act_bwd(torch.ones(1, 1), torch.zeros(1, dtype=torch.uint8), 0.2)


def entries(seen: dict[str, tuple[object, ...]]) -> types.SimpleNamespace:
    """Entries of kernels that write down their arguments and do nothing."""

    def entry(name: str, result: object = None) -> Any:
        def call(*args: object) -> object:
            seen[name] = args
            return result

        return call

    names = ("bias_act_bwd", "conv_single_fprop", "conv_single_dgrad", "conv_single_wgrad")
    calls = {name: entry(name) for name in names}
    return types.SimpleNamespace(**calls, conv_single_workspace=entry("workspace", 64))


def test_kernels_run_on_the_current_stream_of_the_tensors_device(monkeypatch) -> None:
    seen: dict[str, tuple[object, ...]] = {}
    asked: list[torch.device] = []

    def current_stream(device: torch.device) -> types.SimpleNamespace:
        asked.append(device)
        return types.SimpleNamespace(cuda_stream=77)

    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    monkeypatch.setattr(launch, "kernels", lambda: entries(seen))
    x, weight, g = torch.ones(1, 1, 3, 3, 3), torch.ones(16, 1, 3, 3, 3), torch.ones(1, 16, 1, 1, 1)
    geometry = ((1, 1, 1), (0, 0, 0))
    bias_act.bias_act_bwd(g, torch.zeros(2, dtype=torch.uint8), 0.2)
    conv3d.single_fprop(x, weight, None, g, *geometry)
    conv3d.single_dgrad(g, weight, x, *geometry)
    conv3d.single_wgrad(g, x, weight, *geometry)
    assert asked == [x.device] * 4
    del seen["workspace"]
    assert len(seen) == 4
    for args in seen.values():
        assert 77 in [a for a in args if isinstance(a, int)]


def pretended(device: str, dtype: torch.dtype = torch.float32) -> Any:
    return types.SimpleNamespace(
        device=torch.device(device), dtype=dtype, layout=torch.strided, ndim=5
    )


def test_convolutions_on_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(device, "_unusable", lambda index: f"cuda:{index} is too old")
    served = ((16, 1, 4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1), 1)
    gpu = pretended("cuda:1")
    assert conv3d_passes._single(gpu, *served) is None  # auto: not certified
    with dispatch.implementation("native"):
        # PyTorch's for what the kernels do not serve; what they serve says why it cannot run
        assert conv3d_passes._single(gpu, (8, *served[0][1:]), *served[1:]) is None
        assert conv3d_passes._single(pretended("cuda:1", torch.float16), *served) is None
        with pytest.raises(ConfigError, match=r"conv3d: .* cannot serve this: cuda:1 is too old"):
            conv3d_passes._single(gpu, *served)
        monkeypatch.setattr(device, "_unusable", lambda index: None)
        assert conv3d_passes._single(gpu, *served) is conv3d
        # gradients of several channels have no kernels there
        assert not conv3d_passes._native(gpu, "cpu")


@pytest.mark.parametrize("op", ON_GPU)
def test_used_on_a_gpu_only_when_asked_for(op: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(device, "_unusable", lambda index: None)
    x = pretended("cuda:0")
    assert dispatch.choose(op, x) == "reference"
    with dispatch.implementation("native"):
        assert dispatch.choose(op, x) == "native"
        assert dispatch.module(op, x).__name__.endswith(f".cuda.{op}")
        monkeypatch.setattr(device, "_unusable", lambda index: "the driver is too old")
        with pytest.raises(ConfigError, match="cannot serve this: the driver is too old"):
            dispatch.choose(op, x)
