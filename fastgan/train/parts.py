"""A phase in micro-batches: its gradients are added up part by part, as memory holds them.

The parts are to one process what ranks are to several: everything is drawn for the whole batch,
and a part takes its rows. The mean of their losses, gradients and metrics is the batch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import Phase, Variant
from fastgan.random import Shard
from fastgan.train.ranks.refusals import batch_norms

__all__ = ["Parts", "ran_out_of_memory", "remember", "remembered"]

Losses = tuple[Tensor, dict[str, Tensor]]
Differentiate = Callable[[Callable[[], Losses], float], Losses]
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory")
"""What allocators of the CPU say in a RuntimeError."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocator's error, of a GPU or of the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in told for words in OUT_OF_MEMORY)


class Parts:
    """Into how many parts a process's volumes of a batch are divided, and how a phase runs so.

    Args:
        variant: whose phases are run.
        batch: volumes of this process in a batch.
        micro_batch: volumes of a part; None, or as many as `batch`: all of them at once.

    Attributes:
        size: volumes of a part.

    Raises:
        ConfigError: parts of a batch that are not equal, would divide a group of
            `model.minibatch_stddev`, or that the variant knows nothing of.
    """

    def __init__(self, variant: Variant, batch: int, micro_batch: int | None) -> None:
        self._variant, self._batch = variant, batch
        self.size = min(micro_batch or batch, batch)
        if self.size == batch:
            return
        if (reason := self._obstacle()) is not None:
            raise ConfigError(f"train.micro_batch: {reason}; leave it out")
        if self.size not in self._sizes():
            group = _group(variant)
            whole = f" in whole groups of model.minibatch_stddev {group}" if group > 1 else ""
            raise ConfigError(
                f"train.micro_batch: {self.size} does not divide the {batch} volumes of a process"
                f"{whole}; give one of {', '.join(map(str, self._sizes()))}"
            )

    @property
    def count(self) -> int:
        """Of parts."""
        return self._batch // self.size

    def halve(self) -> bool:
        """Let a part have at most half as many volumes; False where it cannot be smaller."""
        smaller = [size for size in self._sizes() if 2 * size <= self.size]
        if not smaller or self._obstacle() is not None:
            return False
        self.size = smaller[-1]
        return True

    def run(self, phase: Phase, differentiate: Differentiate) -> Losses:
        """Loss and metrics of a phase, after the backward pass of each of its parts.

        A metric that some parts cannot say (NaN) is the mean of the others'.

        Args:
            phase: to run; again from its first part where memory ran out.
            differentiate: (loss of a part, its share) -> the same detached; adds to the gradients.
        """
        if self.count == 1:
            return differentiate(phase.loss, 1.0)
        if phase.part_loss is None:
            raise ConfigError(f"train.micro_batch: phase {phase.name} has no `part_loss`")
        before = remembered(self._variant)
        losses, found = [], []
        for index in range(self.count):
            # Every part looks through the same weights, those of spectral norm, too.
            remember(self._variant, before)
            compute = partial(phase.part_loss, Shard(index, self.count))
            loss, metrics = differentiate(compute, 1.0 / self.count)
            losses.append(loss)
            found.append(metrics)
        means = {name: torch.stack([one[name] for one in found]).nanmean() for name in found[0]}
        return torch.stack(losses).mean(), means

    def _sizes(self) -> list[int]:
        """What a part may be, smallest first."""
        group = _group(self._variant)
        return [n for n in range(group, self._batch + 1, group) if self._batch % n == 0]

    def _obstacle(self) -> str | None:
        if not getattr(self._variant, "divisible", False):
            kind = type(self._variant).__name__
            return f"{kind} does not say `divisible`, that its phases have a `part_loss`"
        for path, layer in batch_norms(self._variant):
            return f"{path}: {layer} takes its statistics from the whole batch"
        return None


def remembered(variant: Variant) -> list[Tensor]:
    """Copies of what the networks note in a pass, such as the vectors of spectral norm."""
    return [buffer.clone() for buffer in _notes(variant)]


def remember(variant: Variant, before: Sequence[Tensor]) -> None:
    """Let the networks have the notes that they had."""
    with torch.no_grad():
        for buffer, copy in zip(_notes(variant), before, strict=True):
            buffer.copy_(copy)


def _notes(variant: Variant) -> list[Tensor]:
    """Buffers of networks; a module without parameters, such as a pool, is none."""
    networks = [m for m in variant.modules.values() if next(m.parameters(), None) is not None]
    return [buffer for network in networks for buffer in network.buffers()]


def _group(variant: Variant) -> int:
    """Neighbours of a batch that have to stay together."""
    groups = [getattr(module, "group", 0) for module in variant.modules.values()]
    return max([1, *(group for group in groups if isinstance(group, int))])
