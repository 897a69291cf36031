"""The slabs of a volume, held by neighbouring ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from fastgan.slabs import Slabs

__all__ = ["RankSlabs", "Waited"]

Together = Callable[[str, Callable[[], "dist.Work | Waited | None"]], None]
"""Begins a message and waits for it, or says which rank is lost."""


class RankSlabs(Slabs):
    """Ranks i n to i n + n - 1 hold the n slabs of one share of the batch.

    Args:
        rank: of this process among all.
        world: number of processes, a multiple of `count`.
        count: of slabs.
        together: of the ranks.
    """

    def __init__(self, rank: int, world: int, count: int, together: Together) -> None:
        super().__init__(rank % count, count)
        self._rank, self._world, self._together = rank, world, together
        self._group: dist.ProcessGroup | None = None

    def connect(self, seconds: float) -> None:
        """Be ready; all ranks call it when their process group is there."""
        if self._world == self.count:
            return
        for first in range(0, self._world, self.count):
            members = list(range(first, first + self.count))
            group = dist.new_group(members, timeout=timedelta(seconds=seconds))
            if self._rank in members:
                self._group = group

    def shift(self, up: Tensor, down: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See Slabs."""
        below = torch.empty_like(down, memory_format=torch.contiguous_format)
        above = torch.empty_like(below)
        to_do: list[tuple[Callable[..., dist.Work | None], Tensor, int]] = []
        if self.index + 1 < self.count:
            to_do += [(dist.isend, up.contiguous(), 1), (dist.irecv, above, 1)]
        if self.index > 0:
            to_do += [(dist.isend, down.contiguous(), -1), (dist.irecv, below, -1)]

        def begin() -> Waited:
            return Waited(
                dist.batch_isend_irecv(
                    [
                        dist.P2POp(act, tensor, self._rank + step, self._group)
                        for act, tensor, step in to_do
                    ]
                )
            )

        self._together("exchange of planes", begin)
        return (
            below if self.index > 0 else None,
            above if self.index + 1 < self.count else None,
        )

    def add(self, own: Tensor) -> Tensor:
        """See Slabs."""
        self._together(
            "all_reduce of slabs", lambda: dist.all_reduce(own, group=self._group, async_op=True)
        )
        return own

    def collect(self, own: Tensor) -> list[Tensor]:
        """See Slabs."""
        own = own.contiguous()
        every = [torch.empty_like(own) for _ in range(self.count)]
        self._together(
            "all_gather of slabs",
            lambda: dist.all_gather(every, own, group=self._group, async_op=True),
        )
        return every


class Waited:
    """Several messages, waited for as one."""

    def __init__(self, works: Sequence[dist.Work]) -> None:
        self._works = works

    def wait(self) -> None:
        """Until all have arrived."""
        for work in self._works:
            work.wait()
