"""The number format of the forward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from fastgan.errors import ConfigError

__all__ = ["forward_precision"]


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """A context for computing losses in `float32` or, by autocast, in `bfloat16`.

    Weights, gradients, moments and sums stay float32 in both; bfloat16 has the exponent range of
    float32, so no loss scaling is needed.

    Raises:
        ConfigError: another name.
    """
    if name == "float32":
        return nullcontext()
    if name == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise ConfigError(f"train.precision: must be float32 or bfloat16, got {name!r}")
