"""The CUDA kernels compiled for the CPU, where `fastgan.ops` finds them as the GPU's."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cuda import launch

ROOT = Path(__file__).resolve().parents[2]
# PyTorch's current one, as far as the operators know.
STREAM = 77
# Shapes of each kernel; hundreds by hand.
SHAPES = int(os.environ.get("FASTGAN_EMULATION_SHAPES", "30"))
# "thread": the emulation's own checks; "address": AddressSanitizer, which must be preloaded.
SANITIZER = os.environ.get("FASTGAN_EMULATION", "thread")
# What a kernel writes, scratch memory included: its last arguments.
WRITTEN = {
    "norm_act_fwd": 4,
    "norm_act_statistics": 3,
    "norm_act_apply": 1,
    "norm_act_bwd": 4,
    "norm_act_bwd_bwd": 4,
    "bias_act_fwd": 2,
    "bias_act_bwd": 1,
    "conv_single_fprop": 1,
    "conv_single_dgrad": 1,
    "conv_single_wgrad": 2,
    "slope_penalty_fwd": 3,
    "slope_penalty_bwd": 1,
    "slope_penalty_mix": 1,
}


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Kernels:
    """Entries of the extension whose kernels may touch the given tensors and nothing else."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.launches = 0

    def __getattr__(self, name: str) -> Any:
        entry = getattr(self.module, name)
        if name not in WRITTEN:
            return entry

        def call(*args: Any) -> None:
            self.launches += 1
            self.module.seed(self.launches)
            for i, t in enumerate(args):
                if isinstance(t, Tensor):
                    written = i < len(args) - WRITTEN[name]
                    label = f"argument {i} of {name}"
                    # scratch memory, of which bits are the one other kind, holds floats
                    bits = t.dtype == torch.uint8 and name.startswith("bias_act")
                    granule = (
                        1 if bits else min(t.element_size(), 4) if t.dtype != torch.uint8 else 4
                    )
                    self.module.add_buffer(t.data_ptr(), t.nbytes, granule, label, written)
            self.module.take_streams()
            try:
                entry(*args)
            finally:
                self.module.remove_buffers()
            streams = self.module.take_streams()
            assert set(streams) <= {STREAM}, f"{name} launches on {streams}"
            # nothing but empty tensors is done without a launch
            assert streams or any(isinstance(t, Tensor) and t.numel() == 0 for t in args), name

        return call


@pytest.fixture(scope="session")
def emulated() -> ModuleType:
    build = load("fastgan_emulation_build", ROOT / "csrc" / "emulation" / "build.py")
    return load("fastgan_emulated", build.build(SANITIZER))


@pytest.fixture
def kernels(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels]:
    """Operators on CPU tensors run the CUDA kernels by the code that serves a GPU."""
    found = Kernels(emulated)
    monkeypatch.setattr(launch, "kernels", lambda: found)
    monkeypatch.setattr(launch, "stream", lambda x: STREAM)
    monkeypatch.setattr(
        dispatch, "module", lambda op, x: dispatch._loaded(dispatch.TABLE[op, "native", "cuda"])
    )
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty is NaN
    yield found
    torch.use_deterministic_algorithms(before)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shape_seed" in metafunc.fixturenames:
        metafunc.parametrize("shape_seed", range(SHAPES))
