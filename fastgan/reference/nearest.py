"""Nearest neighbours by direct differences, all pairs at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nearest"]


def nearest(
    query: Tensor,  # [N, ...]
    target: Tensor,  # [M, ...]
    k: int = 1,
    excluded: Tensor | None = None,  # [N, M] bool
) -> tuple[Tensor, Tensor]:  # distance [N, k] float64, index [N, k] int64
    """The definition: N M F differences in float64, or in int64 for integers."""
    wide = torch.float64 if query.is_floating_point() else torch.int64
    difference = query.flatten(1).to(wide)[:, None] - target.flatten(1).to(wide)[None]
    distance = difference.square().sum(2).double().sqrt()
    if excluded is not None:
        distance = distance.masked_fill(excluded, torch.inf)
    # A stable sort keeps the first index on ties.
    nearest_first = distance.sort(dim=1, stable=True)
    return nearest_first.values[:, :k], nearest_first.indices[:, :k]
