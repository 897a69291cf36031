"""What the training loop asks of the ranks; here of one process that trains by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.random import Shard
from fastgan.slabs import Slabs
from fastgan.train.signals import Interruption

__all__ = ["Metrics", "Ranks"]

Metrics = Mapping[str, Tensor]

_T = TypeVar("_T")


class Ranks:
    """The processes of one training, seen from one of them. This one is alone.

    Attributes:
        index: of this process, from 0.
        count: of processes.
        shard: the rows of a batch that this process takes.
        slabs: the parts of each volume, of which this process holds one.
    """

    index: int = 0
    count: int = 1
    shard: Shard = Shard()
    slabs: Slabs = Slabs()
    _interruption: Interruption | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.index == 0

    def split(self, parts: Sequence[int]) -> None:
        """Have every volume held by several ranks: parts along D, H, W, `train.split`.

        Raises:
            ConfigError: another axis than the first, or a number of ranks that does not fit.
        """
        count, *others = parts
        if any(n > 1 for n in others):
            raise ConfigError(
                f"train.split: volumes can be split along the first axis, got {list(parts)}; give "
                f"[{math.prod(parts)}, 1, 1]"
            )
        if self.count % count:
            raise ConfigError(
                f"train.split: {list(parts)} needs {count} processes, or a multiple, and there "
                f"{'is' if self.count == 1 else 'are'} {self.count}; start torchrun with "
                f"--nproc-per-node {count}"
            )

    def device(self, name: str) -> str:
        """The device that this process takes where the configuration says `name`."""
        return name

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Refuse to begin unless all ranks have the same facts, JSON values by dotted key.

        Raises:
            RankError: a fact differs; names it, the ranks and both values.
        """

    def notes(self, what: str, own: Any) -> list[Any]:
        """A JSON value of every rank, in their order; waits for all.

        Args:
            what: the others do until they have theirs, for errors.
            own: of this rank.
        """
        return [own]

    def connect(self, device: torch.device) -> None:
        """Be ready to exchange tensors of a device."""

    def share(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Fill the tensors of all ranks with those of the first."""

    def enter(self, step: int, phase: str) -> None:
        """Note where the training is, for errors; steps counted from 1."""

    def mean(
        self, gradients: Sequence[Tensor], loss: Tensor, metrics: Metrics
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average over the ranks: gradients in place, loss and metrics returned.

        A metric that some ranks cannot say (NaN) is the mean of the others'.
        """
        return loss, dict(metrics)

    def heed(self, interruption: Interruption) -> None:
        """Take note of a signal when it comes."""
        self._interruption = interruption

    def stopping(self) -> bool:
        """Whether to end after the steps done, as all ranks have agreed.

        What was given to `heed` then holds the signal, whichever of them received it.
        """
        return bool(self._interruption)

    def first_does(self, what: str, work: Callable[[], str | None]) -> str:
        """Have the first rank do something while the others wait; all get what it returned.

        Args:
            what: it does, for errors.
            work: done by the first rank alone; if it raises there, the others end, too.
        """
        return work() or ""

    def in_turn(self, what: str, work: Callable[[], _T]) -> _T:
        """Have the first rank do something, then the others: what it left on disk is there."""
        return work()
