"""The Triton search of `nearest`: distances by its kernels, the choice among them in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.ops.implementations.extension import named
from fastgan.ops.implementations.triton import runtime
from fastgan.reference.nearest_blocks import non_finite

__all__ = ["DTYPES", "SERVES", "distance_of", "nearest", "supports"]

_kernels: Any = None
if runtime.import_error is None:
    from fastgan.kernels import nearest as _kernels  # type: ignore[no-redef]

DTYPES = (
    *(torch.float32, torch.bfloat16, torch.float16, torch.float64),
    *(torch.uint8, torch.int8, torch.int16),
)
SERVES = named(DTYPES)
# Distances that are held at once, parts of a sum included: 256 MiB.
_MOST_PAIRS = 1 << 25
# The second dimension of a grid, which counts splits.
_MOST_PROGRAMS = 65535
# Pairs whose distances are summed again at once.
_MOST_CHOSEN = 1 << 20

Groups = tuple[Tensor, Tensor]


def supports(x: Tensor) -> str | None:
    """Why the search cannot take queries `x`: None when it can."""
    if (reason := runtime.unfit("nearest", DTYPES, x)) is not None:
        return reason
    if x.dim() and x[:1].numel() > _MOST_PROGRAMS * _kernels.SEGMENT:
        return f"nearest has Triton kernels for rows of up to 2^32 numbers, got {x[:1].numel()}"
    return None


def nearest(
    query: Tensor, target: Tensor, k: int, groups: Groups | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k targets nearest to every query.

    Takes and returns what `cpu.nearest.nearest` does.

    Deterministic: yes; what a query gets does not depend on the others.
    Cost: see `kernels.nearest`; 300 MB beside its arguments and results, and more only where more
        than 2^20 pairs are equally near.
    """
    query, target = query.contiguous(), target.contiguous()
    squared = query.new_full((len(query), k), torch.nan, dtype=torch.float64)
    index = torch.full_like(squared, -1, dtype=torch.int64)
    bad_query, bad_target = non_finite(query), None
    splits = -(-query.shape[1] // _kernels.SEGMENT)
    block = max(1, min(_MOST_PAIRS // (splits * len(target)), 4 * _MOST_PROGRAMS))
    for number in torch.split((~bad_query).nonzero()[:, 0], block):
        if not len(number):
            break
        # a copy only where rows have to be left out
        rows = query if len(number) == len(query) else query[number]
        found = _distances(rows, target)
        if bad_target is None:
            bad_target = _bad(found[0], target)
        banned = bad_target.expand(len(number), -1)
        if groups is not None:
            banned = banned | (groups[0][number, None] == groups[1][None])
        squared[number], index[number] = _chosen(rows, target, k, found, banned)
    if bad_target is None:
        bad_target = non_finite(target)
    return squared, index, bad_query, bad_target


def distance_of(key: Tensor, dtype: torch.dtype) -> Tensor:
    """Distances from the keys that `nearest` returns, which are their squares for every dtype."""
    return key.sqrt()


def _distances(query: Tensor, target: Tensor) -> Tensor:
    """[n, M] squared distances of the first pass, by blocks of targets."""
    splits = -(-query.shape[1] // _kernels.SEGMENT)
    block = max(1, _MOST_PAIRS // (splits * len(query)))
    parts = [_kernels.all_pairs(query, part) for part in torch.split(target, block)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _bad(found: Tensor, target: Tensor) -> Tensor:
    """[M] bool: targets that hold NaN or infinity, from their distances [M] to a finite query."""
    bad = torch.zeros(len(target), dtype=torch.bool, device=target.device)
    if found.is_floating_point():
        # Squares of large numbers overflow, too, so these are looked at.
        suspects = (~found.isfinite()).nonzero()[:, 0]
        if len(suspects):
            bad[suspects] = non_finite(target[suspects])
    return bad


def _chosen(
    query: Tensor, target: Tensor, k: int, found: Tensor, banned: Tensor
) -> tuple[Tensor, Tensor]:
    """[n, k] squared and index, from first distances [n, M], among targets not banned [n, M]."""
    floating = found.is_floating_point()
    last = torch.inf if floating else torch.iinfo(found.dtype).max
    worst = found.masked_fill(banned, last).kthvalue(k, dim=1).values
    if floating:
        # Both the k-th and a nearer one may be off, in opposite directions.
        rounding = 1e-12 if query.dtype == torch.float64 else _kernels.ROUNDING
        worst = worst * ((1 + rounding) / (1 - rounding) * (1 + 1e-12))
        worst = worst + 4 * _kernels.SMALLEST * query.shape[1]
    row, column = ((found <= worst[:, None]) & ~banned).nonzero().unbind(1)
    if floating:
        parts = zip(torch.split(row, _MOST_CHOSEN), torch.split(column, _MOST_CHOSEN), strict=True)
        value = torch.cat([_kernels.chosen_pairs(query, target, r, c) for r, c in parts])
    else:
        value = found[row, column]
    # By row, then value, then column: a stable sort keeps what was sorted before.
    order = value.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    row, column, value = row[order], column[order], value[order]
    start = torch.searchsorted(row, torch.arange(len(query), device=row.device))
    rank = torch.arange(len(row), device=row.device) - start[row]
    row, column, value, rank = (t[rank < k] for t in (row, column, value, rank))
    squared = query.new_full((len(query), k), torch.nan, dtype=torch.float64)
    index = torch.full_like(squared, -1, dtype=torch.int64)
    squared[row, rank], index[row, rank] = value.double(), column
    return squared, index
