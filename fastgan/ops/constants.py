"""Small tensors of fixed numbers, made once for a process and a device."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

__all__ = ["constant"]


@cache
def constant(
    dtype: torch.dtype, device: torch.device, *parts: tuple[float, int]
) -> Tensor:  # [sum of the counts]
    """Each number as often as its count says: a 1-dimensional tensor that nobody may change.

    Args:
        dtype: floating.
        device: where it stays.
        parts: number and count, in order.

    Cost: launches at the first call alone.

    >>> constant(torch.float32, torch.device("cpu"), (0.5, 2), (3.0, 1)).tolist()
    [0.5, 0.5, 3.0]
    """
    # What inference mode makes, autograd refuses to keep for later.
    with torch.inference_mode(False):
        pieces = [torch.full((n,), value, dtype=dtype, device=device) for value, n in parts]
        return torch.cat(pieces)
