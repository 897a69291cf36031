"""Which implementation of an operator runs, and why not another.

Operators composed of other operators take no part in the choice. Convolutions do where one channel
meets 16 n, and on a CPU in gradients of several channels: the rest is PyTorch's own.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import certificates

__all__ = ["OPERATORS", "Row", "choose", "implementation", "implementations", "module", "report"]

NAMES = ("auto", "reference", "native", "triton")
VARIABLE = "FASTGAN_IMPL"

# Operators that have the choice, best first; the reference serves everything.
_CANDIDATES = {
    "norm_act": ("native", "triton", "reference"),
    "bias_act": ("native", "reference"),
    "slope_penalty": ("native", "reference"),
    "conv3d": ("native", "reference"),
    "fold": ("native", "reference"),
    "smooth": ("native", "reference"),
    "nearest": ("native", "triton", "reference"),
}
_MODULES = {
    ("conv3d", "native"): "fastgan.ops.native_conv3d",
    ("bias_act", "reference"): "fastgan.reference.bias_act",
    ("bias_act", "native"): "fastgan.ops.native_bias_act",
    ("fold", "reference"): "fastgan.reference.fold",
    ("fold", "native"): "fastgan.ops.native_fold",
    ("smooth", "reference"): "fastgan.reference.smooth",
    ("smooth", "native"): "fastgan.ops.native_smooth",
    ("nearest", "reference"): "fastgan.ops.nearest_blocks",
    ("nearest", "native"): "fastgan.ops.native_nearest",
    ("nearest", "triton"): "fastgan.ops.triton_nearest",
    ("norm_act", "reference"): "fastgan.reference.norm_act",
    ("norm_act", "native"): "fastgan.ops.native",
    ("norm_act", "triton"): "fastgan.ops.triton_norm_act",
    ("slope_penalty", "reference"): "fastgan.reference.slope_penalty",
    ("slope_penalty", "native"): "fastgan.ops.native",
}
# On a GPU, where that is another one; the first still says what it supports.
_CUDA_MODULES = {
    ("bias_act", "native"): "fastgan.ops.native_cuda",
    ("conv3d", "native"): "fastgan.ops.native_cuda_conv3d",
    ("norm_act", "native"): "fastgan.ops.native_cuda",
    ("slope_penalty", "native"): "fastgan.ops.native_cuda",
}
OPERATORS = tuple(_CANDIDATES)
_ALL = "float32, bfloat16 and float64"
_ALL_VOXELS = "floats of 16 to 64 bits, int16, int8 and uint8"
_ONE_CHANNEL = "one channel to or from 16 n (3 or 4 taps, stride 1 or 2)"
_SERVES = {
    ("conv3d", "native"): f"{_ONE_CHANNEL}; gradients of several channels",
    ("conv3d", "reference"): "PyTorch's own kernels, for all the rest",
    ("fold", "native"): "floats and integers of 8 to 64 bits",
    ("fold", "reference"): "every dtype",
    ("nearest", "native"): _ALL_VOXELS,
    ("nearest", "triton"): _ALL_VOXELS,
    ("nearest", "reference"): _ALL_VOXELS,
}
_SERVES_ON_CUDA = {("conv3d", "native"): _ONE_CHANNEL}
# One for the process, not for the thread: CUDA backwards run in threads of autograd's own.
_forced: str | None = None


class Row(NamedTuple):
    """One line of `report`."""

    op: str
    implementation: str
    device: str
    available: bool
    used: bool  # by "auto"
    reason: str


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Force an implementation, for the whole process, until the block ends.

    Args:
        name: "auto" (the default), "reference" (PyTorch), "native" (C++ or CUDA) or "triton".
            The environment variable FASTGAN_IMPL takes the same names; this block overrides it.

    An operator without an implementation of that name chooses as under "auto". Forcing one on a GPU
    is how to use kernels that are not certified there.

    Raises:
        ConfigError: an unknown name; inside the block, an operator that has the implementation on
            what it cannot serve, with the reason.

    >>> with implementation("reference"):
    ...     choose("norm_act", torch.zeros(1, 2, 3, 3, 3))
    'reference'
    """
    global _forced
    before, _forced = _forced, _checked(name, "implementation")
    try:
        yield
    finally:
        _forced = before


def choose(op: str, x: Tensor) -> str:
    """Name of the implementation that runs `op` on x.

    Raises:
        ConfigError: one is forced and cannot serve x.
    """
    forced = _forced or _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)
    if forced not in _CANDIDATES[op]:
        return next(name for name in _CANDIDATES[op] if _obstacle(op, name, x, auto=True) is None)
    obstacle = _obstacle(op, forced, x, auto=False)
    if obstacle is not None:
        raise ConfigError(f"{op}: implementation {forced!r} cannot serve this: {obstacle}")
    return forced


def module(op: str, x: Tensor) -> ModuleType:
    """The module whose passes run `op` on x; see `choose`."""
    name = choose(op, x)
    on_cuda = _CUDA_MODULES.get((op, name)) if x.device.type == "cuda" else None
    return _loaded(on_cuda or _MODULES[op, name])


def _loaded(name: str) -> ModuleType:
    # Asking the import system takes longer than a small operator does.
    return sys.modules.get(name) or importlib.import_module(name)


def implementations(op: str, x: Tensor) -> list[str]:
    """Implementations that can be forced on x beside the reference, certified or not."""
    return [
        name
        for name in _CANDIDATES[op]
        if name != "reference" and _obstacle(op, name, x, auto=False) is None
    ]


def report() -> list[Row]:
    """Every operator and implementation on this machine's devices, with the reason for each."""
    rows = []
    for op, names in _CANDIDATES.items():
        for device in ("cpu", "cuda"):
            own = [_row(op, name, device) for name in names]
            first = next((row for row in own if row.available), None)
            rows += [row._replace(used=row is first) for row in own]
    row = "by the passes of conv3d"
    rows.append(Row("conv_transpose3d", "native, reference", "any", True, True, row))
    for op in ("norm_act_conv", "gradient_penalty"):
        row = "composed of operators, the only implementation"
        rows.append(Row(op, "reference", "any", True, True, row))
    return rows


def _row(op: str, name: str, device: str) -> Row:
    if device == "cuda" and not torch.cuda.is_available():
        return Row(op, name, device, False, False, "no CUDA device that this torch can use")
    obstacle = _obstacle(op, name, _probe(device), auto=True)
    served = _SERVES | (_SERVES_ON_CUDA if device == "cuda" else {})
    return Row(op, name, device, obstacle is None, False, obstacle or served.get((op, name), _ALL))


def _probe(device: str) -> Tensor:
    return torch.empty(1, 1, 2, 2, 2, device=device)


def _checked(name: str, where: str) -> str:
    if name not in NAMES:
        raise ConfigError(f"{where}: must be one of {', '.join(NAMES)}, got {name!r}")
    return name


def _obstacle(op: str, name: str, x: Tensor, *, auto: bool) -> str | None:
    """Why `name` cannot run `op` on x; None where it can."""
    if name == "reference":
        return None
    if (op, name) not in _MODULES:
        return f"{op} has no {name} implementation"
    reason: str | None = _loaded(_MODULES[op, name]).supports(op, x)
    if reason is not None or not auto:
        return reason
    if x.device.type == "cuda":
        return certificates.obstacle(op, name, x.device)
    return "an interpreter, for tests" if name == "triton" else None
