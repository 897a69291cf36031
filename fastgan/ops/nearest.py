"""Exact nearest neighbours, Euclidean, for feature vectors and whole volumes.

Near-copies are what memorization looks like, and there the expansion |x|^2 + |y|^2 - 2 x y of
floating numbers cancels. So floats are compared by direct differences in float64. For integers
the expansion is exact: every partial sum is a whole number below 2^53.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops.checks import require

__all__ = ["nearest"]

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_INTEGERS = (torch.uint8, torch.int8, torch.int16)
_ROW_BYTES = 64 * 2**20  # of the float64 copies of a block of rows
_MOST_ROWS = 2048  # keeps the distances between two blocks at 32 MiB
_EXACT_FEATURES = 2**22  # products of 16-bit numbers reach 2^30; 2^22 of them stay below 2^53


def nearest(
    query: Tensor,
    target: Tensor,
    k: int = 1,
    *,
    exclude: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The k targets nearest to every query, nearest first.

    Args:
        query: [N, ...], N >= 1; vectors or volumes, flattened to F numbers. Floating, uint8, int8
            or int16.
        target: [M, ...], M >= 1, shape (beyond M), dtype and device of query.
        k: neighbours for each query, 1 <= k <= M.
        exclude: group numbers of the queries [N] and of the targets [M], integers: a query is never
            matched with a target of its own group (its subject, or itself).

    Returns:
        distance: [N, k] float64, Euclidean. index: [N, k] int64 into target; of equally near
        targets the first.
        A query that holds NaN or infinity gets distance NaN and index -1, a target that does is
        no neighbour; a warning counts both.

    Raises:
        ConfigError: shapes, dtypes, devices that do not fit; fewer than k targets left for a query.

    Derivatives: none.
    Deterministic: yes, independent of thread count and of how queries are split over calls.
    Cost: 3 N M F flops in float64 (2 for integers); under 300 MB beside its arguments, or the
        float64 copy of two rows where that is more.

    >>> nearest(torch.tensor([[0.0]]), torch.tensor([[3.0], [1.0], [-1.0]]), k=2)
    (tensor([[1., 1.]], dtype=torch.float64), tensor([[1, 2]]))
    """
    _check(query, target, k)
    query, target = query.detach().flatten(1), target.detach().flatten(1)
    groups = None if exclude is None else _groups(exclude, query, target)
    bad_query, bad_target = _non_finite(query), _non_finite(target)
    _check_enough(k, bad_query, bad_target, groups)

    distance = query.new_empty((len(query), k), dtype=torch.float64)
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
        distance[rows], index[rows] = nearest_rows.distance(), nearest_rows.index
    distance[bad_query], index[bad_query] = torch.nan, -1
    return distance, index


class _Nearest:
    """The k nearest of all targets offered so far, to a block of queries."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.keys: Tensor | None = None  # [n, <= k]
        self.index = torch.empty(0)  # [n, <= k]

    def offer(self, keys: Tensor, banned: Tensor, start: int) -> None:
        """Take in the keys [n, m] of the targets from `start` on, except banned ones."""
        # NaN sorts behind infinity; integers end far below their largest value.
        last = torch.nan if keys.is_floating_point() else torch.iinfo(keys.dtype).max
        keys = keys.masked_fill(banned, last)
        index = torch.arange(start, start + keys.shape[1], device=keys.device)
        index = index.expand(keys.shape)
        if self.keys is not None:
            keys = torch.cat((self.keys, keys), dim=1)
            index = torch.cat((self.index, index), dim=1)
        # Earlier targets stand first, and a stable sort leaves them there on ties.
        keys, order = keys.sort(dim=1, stable=True)
        self.keys = keys[:, : self.k]
        self.index = index.gather(1, order[:, : self.k])

    def distance(self) -> Tensor:
        """Euclidean distances [n, k] float64."""
        assert self.keys is not None
        return self.keys if self.keys.is_floating_point() else self.keys.double().sqrt()


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


def _check(query: Tensor, target: Tensor, k: int) -> None:
    op = "nearest"
    for name, rows in (("query", query), ("target", target)):
        require(rows.dim() >= 2, op, f"{name} must be [rows, ...]", list(rows.shape))
        require(rows.numel() > 0, op, f"{name} must not be empty", list(rows.shape))
    rule = f"target must be [M, {', '.join(map(str, query.shape[1:]))}] like query"
    require(query.shape[1:] == target.shape[1:], op, rule, list(target.shape))
    require(
        query.dtype == target.dtype, op, f"target must be {query.dtype} like query", target.dtype
    )
    supported = query.dtype in _FLOATS + _INTEGERS
    require(supported, op, "query must be floating, uint8, int8 or int16", query.dtype)
    require(query.device == target.device, op, f"target must be on {query.device}", target.device)
    require(1 <= k <= len(target), op, f"k must be 1 to M = {len(target)}", k)


def _groups(exclude: tuple[Tensor, Tensor], query: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    groups = []
    for name, group, rows in zip(("query", "target"), exclude, (query, target), strict=True):
        whole = not (group.is_floating_point() or group.is_complex())
        fits = whole and list(group.shape) == [len(rows)]
        rule = f"exclude must give integers [{len(rows)}] for {name}"
        require(fits, "nearest", rule, f"{list(group.shape)} {group.dtype}")
        groups.append(group.to(rows.device))
    return groups[0], groups[1]


def _non_finite(rows: Tensor) -> Tensor:
    """[rows] bool: which hold NaN or infinity."""
    if not rows.is_floating_point():
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    # In blocks, as isfinite makes a mask of the size of its input.
    return torch.cat([~rows[block].isfinite().all(dim=1) for block in _blocks(rows)])


def _check_enough(
    k: int, bad_query: Tensor, bad_target: Tensor, groups: tuple[Tensor, Tensor] | None
) -> None:
    queries, targets = int(bad_query.sum()), int(bad_target.sum())
    if queries or targets:
        warnings.warn(
            f"nearest: {queries} of {len(bad_query)} queries and {targets} of {len(bad_target)} "
            "targets hold NaN or infinity and are matched with nothing",
            stacklevel=3,
        )
    left = (~bad_target).sum().expand(len(bad_query))
    if groups is not None:
        known, number = torch.unique(torch.cat(groups), return_inverse=True)
        own = torch.bincount(number[len(bad_query) :][~bad_target], minlength=len(known))
        left = left - own[number[: len(bad_query)]]
    short = (left < k) & ~bad_query
    if short.any():
        first = int(short.nonzero()[0, 0])
        raise ConfigError(
            f"nearest: {k} neighbours asked for, but query {first} has {int(left[first])} targets "
            f"left after exclusion and NaN or infinity ({int(short.sum())} queries are short)"
        )
