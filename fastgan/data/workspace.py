"""Where a batch is put together: the memory it lies in, and the threads that fill it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor

__all__ = ["Workspace"]


class Workspace:
    """Memory and threads of the batches of one run; by default none but the caller's.

    Args:
        threads: that fill rows of a batch at once; 1: the caller's own.
        pinned: batches lie in page-locked memory, from which a GPU copies beside its kernels.
            PyTorch keeps freed blocks for the next batch, so that locking is paid once.
    """

    def __init__(self, threads: int = 1, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._crew = ThreadPoolExecutor(threads, "fastgan-rows") if threads > 1 else None

    def empty(self, shape: Sequence[int]) -> Tensor:
        """[B, C, D, H, W] float32 in channels_last_3d, with undefined values."""
        # Of one channel both layouts are the same bytes; the strides stay the usual ones.
        form = torch.contiguous_format if shape[1] == 1 else torch.channels_last_3d
        return torch.empty(tuple(shape), memory_format=form, pin_memory=self._pinned)

    def each(self, fill: Callable[[int], None], count: int) -> None:
        """Call `fill` with 0 to count - 1, in any order, and return when all have returned.

        Raises:
            what a call raised, the first by number.
        """
        if self._crew is None:
            for row in range(count):
                fill(row)
            return
        rows = [self._crew.submit(fill, row) for row in range(count)]
        wait(rows)
        for row_done in rows:
            row_done.result()

    def close(self) -> None:
        """End the threads."""
        if self._crew is not None:
            self._crew.shutdown(wait=True, cancel_futures=True)
