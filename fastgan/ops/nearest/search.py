"""Exact nearest neighbours, Euclidean, for feature vectors and whole volumes.

Near-copies are what memorization looks like, and there the expansion |x|^2 + |y|^2 - 2 x y of
floating numbers cancels. So what decides here is a direct difference in float64, or integer
arithmetic; docs/nearest.md has the whole story.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops.checks import require, require_tensors
from fastgan.ops.implementations import dispatch

__all__ = ["nearest"]

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.uint8, torch.int8, torch.int16)

Groups = tuple[Tensor, Tensor]


def nearest(
    query: Tensor,
    target: Tensor,
    k: int = 1,
    *,
    exclude: Groups | None = None,
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
    Cost: on the CPU, M F reads for few queries, else N M F integer multiplications and about k
        direct differences a query; under 200 MB beside its arguments and results. Elsewhere 3 N M F
        flops in float64 (2 for integers), under 300 MB or the float64 copy of two rows.

    >>> nearest(torch.tensor([[0.0]]), torch.tensor([[3.0], [1.0], [-1.0]]), k=2)
    (tensor([[1., 1.]], dtype=torch.float64), tensor([[1, 2]]))
    """
    check_rows(query, target)
    require(1 <= k <= len(target), "nearest", f"k must be 1 to M = {len(target)}", k)
    query, target = query.detach().flatten(1), target.detach().flatten(1)
    groups = None if exclude is None else check_groups(exclude, query, len(target))
    if groups is not None:
        good = [rows.new_zeros(len(rows), dtype=torch.bool) for rows in (query, target)]
        check_enough(k, good[0], good[1], groups)
    module = dispatch.module("nearest", query)
    key, index, bad_query, bad_target = module.nearest(query, target, k, groups)
    report_bad(bad_query, bad_target)
    check_enough(k, bad_query, bad_target, groups)
    return module.distance_of(key, query.dtype), index


def check_rows(query: Tensor, target: Tensor) -> None:
    """Refuse rows that cannot be compared."""
    op = "nearest"
    for name, rows in (("query", query), ("target", target)):
        require_tensors(op, **{name: rows})
        require(rows.dim() >= 2, op, f"{name} must be [rows, ...]", list(rows.shape))
        require(rows.numel() > 0, op, f"{name} must not be empty", list(rows.shape))
    rule = f"target must be [M, {', '.join(map(str, query.shape[1:]))}] like query"
    require(query.shape[1:] == target.shape[1:], op, rule, list(target.shape))
    require(
        query.dtype == target.dtype, op, f"target must be {query.dtype} like query", target.dtype
    )
    supported = query.dtype in FLOATS + INTEGERS
    require(supported, op, "query must be floating, uint8, int8 or int16", query.dtype)
    require(query.device == target.device, op, f"target must be on {query.device}", target.device)


def check_groups(exclude: Groups, query: Tensor, targets: int) -> Groups:
    """Group numbers as int64 on the device of the queries."""
    groups = []
    for name, group, rows in zip(("query", "target"), exclude, (len(query), targets), strict=True):
        whole = not (group.is_floating_point() or group.is_complex())
        fits = whole and list(group.shape) == [rows]
        rule = f"exclude must give integers [{rows}] for {name}"
        require(fits, "nearest", rule, f"{list(group.shape)} {group.dtype}")
        groups.append(group.to(query.device, torch.int64))
    return groups[0], groups[1]


def report_bad(bad_query: Tensor, bad_target: Tensor) -> None:
    """Warn of rows that hold NaN or infinity."""
    queries, targets = int(bad_query.sum()), int(bad_target.sum())
    if queries or targets:
        warnings.warn(
            f"nearest: {queries} of {len(bad_query)} queries and {targets} of {len(bad_target)} "
            "targets hold NaN or infinity and are matched with nothing",
            stacklevel=3,
        )


def check_enough(k: int, bad_query: Tensor, bad_target: Tensor, groups: Groups | None) -> None:
    """Refuse to go on where fewer than k targets are left for a query."""
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
