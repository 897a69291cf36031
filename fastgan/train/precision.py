"""The number format of the forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops.casts import Loans, lent
from fastgan.ops.tensor_float import tensor_float32

__all__ = ["forward_precision", "phase_precision", "resolve_precision", "step_precision"]


def resolve_precision(
    name: Literal["float32", "tf32", "bfloat16", "auto"], device: torch.device
) -> Literal["float32", "tf32", "bfloat16"]:
    """The precision of `auto`: bfloat16 on a device with matrix units for it, else float32.

    These are CUDA devices of compute capability 8.0 or more and CPUs with AMX; other CPUs emulate
    bfloat16, slowly. Any other name is returned as it is.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = "amx_bf16" in _cpu_flags()
    return "bfloat16" if fast else "float32"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def step_precision(name: str) -> AbstractContextManager[None]:
    """A context for a whole step: float32 products are float32's, or TF32's on a GPU by `tf32`."""
    return tensor_float32(name == "tf32")


@contextmanager
def phase_precision(name: str, device: torch.device, weights: Sequence[Tensor]) -> Iterator[Loans]:
    """`forward_precision` for the loss of a phase, in which the weights do not change.

    In `bfloat16` they are cast once, not at each use. Their gradients are there when the loans
    that it yields have been collected.
    """
    dtype = torch.bfloat16 if name == "bfloat16" else None
    with forward_precision(name, device), lent(weights, dtype) as loans:
        yield loans


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """A context for computing losses in float32 or, by autocast, in `bfloat16`.

    `float32` and `tf32` differ in `step_precision` alone, for a backward pass has products, too.

    Weights, gradients, moments and sums stay float32 in both; bfloat16 has the exponent range of
    float32, so no loss scaling is needed.

    Raises:
        ConfigError: another name.
    """
    if name in ("float32", "tf32"):
        return nullcontext()
    if name == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise ConfigError(f"train.precision: must be float32, tf32 or bfloat16, got {name!r}")
