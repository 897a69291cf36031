"""The compiled searches of `nearest`, on tensors."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded

__all__ = [
    "DTYPES",
    "SERVES",
    "distance_of",
    "nearest",
    "nearest_pyramid",
    "nearest_pyramid_build",
    "supports",
]

DTYPES = (*extension.FLOATING, torch.float16, torch.int16, torch.int8, torch.uint8)
SERVES = extension.named(DTYPES)
supports = partial(extension.unfit, "nearest", "cpu", DTYPES)


def nearest(
    query: Tensor,  # [N, F], not empty
    target: Tensor,  # [M, F], likewise
    k: int,  # 1 to M
    groups: tuple[Tensor, Tensor] | None,  # int64 [N] and [M]: equal numbers are not matched
    *,
    path: str = "auto",  # "direct", "dots" or "wide" for tests and measurements
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The k targets nearest to every query.

    Returns:
        squared: [N, k] float64, of the Euclidean distance. index: [N, k] int64. NaN and -1 where no
        more targets are allowed.
        bad_query, bad_target: [N] and [M] bool, which rows hold NaN or infinity.

    Cost: see `fastgan.ops.nearest`.
    """
    squared = query.new_empty((len(query), k), dtype=torch.float64)
    index = query.new_empty((len(query), k), dtype=torch.int64)
    bad = [rows.new_empty(len(rows), dtype=torch.uint8) for rows in (query, target)]
    numbers = (None, None) if groups is None else (groups[0].contiguous(), groups[1].contiguous())
    loaded().nearest(
        *(query.contiguous(), target.contiguous(), k, *numbers),
        *(torch.get_num_threads(), path, squared, index, *bad),
    )
    return squared, index, bad[0].bool(), bad[1].bool()


def nearest_pyramid_build(
    volumes: Tensor,  # [rows, S D H W] contiguous
    shape: tuple[int, int, int, int],  # S, D, H, W
) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse versions of volumes, by means and deviations of blocks.

    Returns:
        coarse: [rows, width] float32. error: [rows] float64, how far a coarse row may be from the
        truth. bad: [rows] bool, which hold NaN or infinity.

    Cost: one read of volumes.
    """
    rows = len(volumes)
    coarse = volumes.new_empty((rows, loaded().nearest_pyramid_width(*shape)), dtype=torch.float32)
    error = volumes.new_empty(rows, dtype=torch.float64)
    bad = volumes.new_empty(rows, dtype=torch.uint8)
    threads = torch.get_num_threads()
    loaded().nearest_pyramid_build(volumes, *shape, threads, coarse, error, bad)
    return coarse, error, bad.bool()


def nearest_pyramid(
    query: Tensor,  # [N, S D H W] contiguous
    target: Tensor,  # [M, S D H W] contiguous
    query_pyramid: tuple[Tensor, Tensor, Tensor],  # from `nearest_pyramid_build`
    target_pyramid: tuple[Tensor, Tensor, Tensor],
    shape: tuple[int, int, int, int],  # S, D, H, W
    k: int,
    groups: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The k targets nearest to every query, by their coarse versions first.

    Returns:
        squared, index: as `nearest`. read: [N] int64, numbers read of coarse rows and volumes.

    Cost: one read of the coarsest rows; of finer ones and of volumes as the data demand.
    """
    squared = query.new_empty((len(query), k), dtype=torch.float64)
    index, read = torch.empty_like(squared, dtype=torch.int64), torch.empty(len(query)).long()
    numbers = (None, None) if groups is None else (groups[0].contiguous(), groups[1].contiguous())
    bad = [pyramid[2].to(torch.uint8) for pyramid in (query_pyramid, target_pyramid)]
    loaded().nearest_pyramid(
        *(query, target, k, *numbers, torch.get_num_threads(), *shape),
        *(*query_pyramid[:2], *target_pyramid[:2], squared, index, *bad, read),
    )
    return squared, index, read


def distance_of(key: Tensor, dtype: torch.dtype) -> Tensor:
    """Distances from the keys that `nearest` returns, which are their squares for every dtype."""
    return key.sqrt()
