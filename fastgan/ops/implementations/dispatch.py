"""Which implementation of an operator runs, and why not another.

Operators composed of other operators take no part in the choice. Of convolutions, what no kernel
here serves is PyTorch's own. Each module says itself what it serves, and of a tensor why it cannot.
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
from fastgan.ops.implementations import certificates

__all__ = [
    "OPERATORS",
    "TABLE",
    "Row",
    "choose",
    "implementation",
    "implementations",
    "module",
    "offered",
    "report",
]

NAMES = ("auto", "reference", "native", "triton")
VARIABLE = "FASTGAN_IMPL"

_HERE = "fastgan.ops.implementations"
# Every implementation: operator, name, type of device; best first. References serve everything.
# conv3d has kernels for one channel, with 16 n it is conv3d_channels: each is proven by itself.
TABLE = {
    ("norm_act", "native", "cpu"): f"{_HERE}.cpu.norm_act",
    ("norm_act", "native", "cuda"): f"{_HERE}.cuda.norm_act",
    ("norm_act", "triton", "cpu"): f"{_HERE}.triton.norm_act",
    ("norm_act", "triton", "cuda"): f"{_HERE}.triton.norm_act",
    ("norm_act", "reference", "any"): "fastgan.reference.norm_act",
    ("bias_act", "native", "cpu"): f"{_HERE}.cpu.bias_act",
    ("bias_act", "native", "cuda"): f"{_HERE}.cuda.bias_act",
    ("bias_act", "reference", "any"): "fastgan.reference.bias_act",
    ("slope_penalty", "native", "cuda"): f"{_HERE}.cuda.slope_penalty",
    ("slope_penalty", "reference", "any"): "fastgan.reference.slope_penalty",
    ("conv3d", "native", "cpu"): f"{_HERE}.cpu.conv3d",
    ("conv3d", "native", "cuda"): f"{_HERE}.cuda.conv3d",
    ("conv3d", "reference", "any"): "fastgan.reference.conv3d",
    ("conv3d_channels", "triton", "cpu"): f"{_HERE}.triton.conv3d",
    ("conv3d_channels", "triton", "cuda"): f"{_HERE}.triton.conv3d",
    ("conv3d_channels", "reference", "any"): "fastgan.reference.conv3d",
    ("norm_act_conv", "triton", "cpu"): f"{_HERE}.triton.conv3d",
    ("norm_act_conv", "triton", "cuda"): f"{_HERE}.triton.conv3d",
    ("norm_act_conv", "reference", "any"): "fastgan.reference.norm_act_conv",
    ("fold", "native", "cpu"): f"{_HERE}.cpu.fold",
    ("fold", "reference", "any"): "fastgan.reference.fold",
    ("smooth", "native", "cpu"): f"{_HERE}.cpu.smooth",
    ("smooth", "reference", "any"): "fastgan.reference.smooth",
    ("nearest", "native", "cpu"): f"{_HERE}.cpu.nearest",
    ("nearest", "triton", "cpu"): f"{_HERE}.triton.nearest",
    ("nearest", "triton", "cuda"): f"{_HERE}.triton.nearest",
    ("nearest", "reference", "any"): "fastgan.reference.nearest_blocks",
}
OPERATORS = tuple(dict.fromkeys(op for op, _, _ in TABLE))
_CANDIDATES = {op: tuple(dict.fromkeys(n for o, n, _ in TABLE if o == op)) for op in OPERATORS}
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

    An operator without an implementation of that name for a device chooses there as under "auto".
    Forcing one on a GPU is how to use kernels that are not certified there.

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
    if _key(op, forced, x.device.type) not in TABLE:
        return next(name for name in _CANDIDATES[op] if _obstacle(op, name, x, auto=True) is None)
    obstacle = _obstacle(op, forced, x, auto=False)
    if obstacle is not None:
        raise ConfigError(f"{op}: implementation {forced!r} cannot serve this: {obstacle}")
    return forced


def module(op: str, x: Tensor) -> ModuleType:
    """The module whose passes run `op` on x; see `choose`."""
    name = choose(op, x)
    return _loaded(TABLE[_key(op, name, x.device.type)])


def offered(op: str, name: str, x: Tensor) -> ModuleType | None:
    """The module of an implementation that serves some sizes alone, where it should run those.

    Unlike `choose` it refuses nothing that was forced: what it does not serve is the library's.
    """
    forced = _forced or _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)
    auto = _key(op, forced, x.device.type) not in TABLE
    if (not auto and forced != name) or _obstacle(op, name, x, auto=auto) is not None:
        return None
    return _loaded(TABLE[_key(op, name, x.device.type)])


def _key(op: str, name: str, device: str) -> tuple[str, str, str]:
    return op, name, "any" if name == "reference" else device


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
    row = "by the passes of conv3d and conv3d_channels"
    rows.append(Row("conv_transpose3d", "native, reference", "any", True, True, row))
    row = "composed of operators, the only implementation"
    rows.append(Row("gradient_penalty", "reference", "any", True, True, row))
    return rows


def _row(op: str, name: str, device: str) -> Row:
    if device == "cuda" and not torch.cuda.is_available():
        return Row(op, name, device, False, False, "no CUDA device that this torch can use")
    obstacle = _obstacle(op, name, _probe(device), auto=True, tries=False)
    reason = obstacle or _loaded(TABLE[_key(op, name, device)]).SERVES
    return Row(op, name, device, obstacle is None, False, reason)


def _probe(device: str) -> Tensor:
    return torch.empty(1, 1, 2, 2, 2, device=device)


def _checked(name: str, where: str) -> str:
    if name not in NAMES:
        raise ConfigError(f"{where}: must be one of {', '.join(NAMES)}, got {name!r}")
    return name


def _obstacle(op: str, name: str, x: Tensor, *, auto: bool, tries: bool = True) -> str | None:
    """Why `name` cannot run `op` on x, or `auto` must not let it; None where it can.

    With `tries`, a kernel for GPUs of which nothing is known is tried, once a machine.
    """
    if name == "reference":
        return None
    place = TABLE.get(_key(op, name, x.device.type))
    if place is None:
        where = {"cpu": "the CPU", "cuda": "a GPU"}.get(x.device.type, x.device.type)
        return f"{op} has no {name} kernel for {where}"
    if auto and (name, x.device.type) == ("triton", "cpu"):
        return "an interpreter, for tests"  # known without importing Triton
    reason: str | None = _loaded(place).supports(x)
    if reason is None and auto and x.device.type == "cuda":
        return certificates.obstacle(op, name, x.device, tries=tries)
    return reason
