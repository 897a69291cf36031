"""What the trials draw their cases from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from fastgan.ops.implementations.dispatch import module
from fastgan.ops.proof.error_ratios import DTYPES

__all__ = ["FORMS", "integer", "normal", "served"]

FORMS = (torch.channels_last_3d, torch.contiguous_format)


def integer(draw: torch.Generator, least: int, most: int) -> int:
    """One of least to most, both included."""
    return int(torch.randint(least, most + 1, (), generator=draw))


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    """float32 numbers that bfloat16 holds."""
    return torch.randn(shape, generator=draw).bfloat16().float()


def served(op: str, device: torch.device) -> tuple[torch.dtype, ...]:
    """Dtypes of a case that the implementation under trial has kernels for."""
    probe = torch.empty(1, 1, 2, 2, 2, device=device)
    known: Iterable[torch.dtype] = getattr(module(op, probe), "DTYPES", DTYPES)
    return tuple(dtype for dtype in DTYPES if dtype in known)
