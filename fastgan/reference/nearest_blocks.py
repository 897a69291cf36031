"""Nearest neighbours in PyTorch, block by block: the implementation for every device.

Floats are compared by direct differences in float64, as the expansion |x|^2 + |y|^2 - 2 x y cancels
for near-copies. For integers the expansion is exact: every partial sum is a whole number below
2^53.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["SERVES", "distance_of", "nearest", "non_finite"]

SERVES = "floats of 16 to 64 bits, int16, int8 and uint8"

_ROW_BYTES = 64 * 2**20  # of the float64 copies of a block of rows
_MOST_ROWS = 2048  # keeps the distances between two blocks at 32 MiB
_EXACT_FEATURES = 2**22  # products of 16-bit numbers reach 2^30; 2^22 of them stay below 2^53

Groups = tuple[Tensor, Tensor]


def nearest(
    query: Tensor,  # [N, F]
    target: Tensor,  # [M, F]
    k: int,
    groups: Groups | None,  # [N] and [M]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Key [N, k] float64, index [N, k] int64, bad queries [N] and bad targets [M] bool.

    Keys sort like distances. Where fewer than k targets are left, key is NaN and index -1.
    """
    bad_query, bad_target = non_finite(query), non_finite(target)
    key = query.new_empty((len(query), k), dtype=torch.float64)
    index = query.new_empty((len(query), k), dtype=torch.int64)
    for rows in _blocks(query):
        query_groups = None if groups is None else groups[0][rows]
        nearest_rows = _Nearest(k)
        for columns in _blocks(target):
            keys = _keys(query[rows], target[columns])
            banned = bad_target[columns].expand(keys.shape)
            if groups is not None and query_groups is not None:
                banned = banned | (query_groups[:, None] == groups[1][None, columns])
            nearest_rows.offer(keys, banned, columns.start)
        key[rows], index[rows] = nearest_rows.result()
    key[bad_query], index[bad_query] = torch.nan, -1
    return key, index, bad_query, bad_target


def distance_of(key: Tensor, dtype: torch.dtype) -> Tensor:
    """Distances from keys of rows of a dtype: those of integers are squares."""
    return key if dtype.is_floating_point else key.sqrt()


class _Nearest:
    """The k nearest of all targets offered so far, to a block of queries."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.keys: Tensor | None = None  # [n, <= k]
        self.index = torch.empty(0)  # [n, <= k], -1 for banned targets

    def offer(self, keys: Tensor, banned: Tensor, start: int) -> None:
        """Take in the keys [n, m] of the targets from `start` on, except banned ones."""
        # NaN sorts behind infinity; integers end far below their largest value.
        last = torch.nan if keys.is_floating_point() else torch.iinfo(keys.dtype).max
        keys = keys.masked_fill(banned, last)
        index = torch.arange(start, start + keys.shape[1], device=keys.device)
        index = index.expand(keys.shape).masked_fill(banned, -1)
        if self.keys is not None:
            keys = torch.cat((self.keys, keys), dim=1)
            index = torch.cat((self.index, index), dim=1)
        # Earlier targets stand first, and a stable sort leaves them there on ties.
        keys, order = keys.sort(dim=1, stable=True)
        self.keys = keys[:, : self.k]
        self.index = index.gather(1, order[:, : self.k])

    def result(self) -> tuple[Tensor, Tensor]:
        """Keys [n, k] float64 and index [n, k]."""
        assert self.keys is not None
        return self.keys.double().masked_fill(self.index < 0, torch.nan), self.index


def _keys(query: Tensor, target: Tensor) -> Tensor:
    """[n, F] and [m, F] to [n, m]: distances in float64; of integers their squares in int64."""
    if query.is_floating_point():
        # This mode subtracts first, and a pair's value depends on that pair alone.
        mode = "donot_use_mm_for_euclid_dist"
        return torch.cdist(query.double(), target.double(), compute_mode=mode)
    dots = query.new_zeros((len(query), len(target)), dtype=torch.int64)
    squares_q, squares_t = dots.new_zeros(len(query)), dots.new_zeros(len(target))
    for start in range(0, query.shape[1], _EXACT_FEATURES):
        part = slice(start, start + _EXACT_FEATURES)
        q, t = query[:, part].double(), target[:, part].double()
        dots += (q @ t.T).long()
        squares_q += q.square().sum(1).long()
        squares_t += t.square().sum(1).long()
    return squares_q[:, None] + squares_t[None] - 2 * dots


def _blocks(rows: Tensor) -> Iterator[slice]:
    size = max(1, min(_MOST_ROWS, _ROW_BYTES // (8 * rows.shape[1])))
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def non_finite(rows: Tensor) -> Tensor:
    """[rows] bool: which hold NaN or infinity."""
    if not rows.is_floating_point():
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    # In blocks, as isfinite makes a mask of the size of its input.
    return torch.cat([~rows[block].isfinite().all(dim=1) for block in _blocks(rows)])
