"""A phase in micro-batches: its gradients are added up part by part, as memory holds them.

The parts are to one process what ranks are to several: everything is drawn for the whole batch,
and a part takes its rows. The mean of their losses, gradients and metrics is the batch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from fastgan.errors import ConfigError, FastganError
from fastgan.gans import Phase, Variant
from fastgan.nn import notes_of, restore_notes
from fastgan.random import Shard
from fastgan.terminal import counted
from fastgan.train.ranks.refusals import batch_norms

__all__ = ["Parts", "part_sizes", "ran_out_of_memory", "require_repeatable"]

Losses = tuple[Tensor, dict[str, Tensor]]
Differentiate = Callable[[Callable[[], Losses], float], Losses]
Notes = Sequence[Sequence[Tensor]]
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "cannot allocate memory")
"""What allocators of the CPU say in a RuntimeError."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocator's error, of a GPU or of the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # An error of ours may speak of memory, such as of a rank that was lost.
    if not isinstance(error, RuntimeError) or isinstance(error, FastganError):
        return False
    told = str(error).lower()
    return any(words in told for words in OUT_OF_MEMORY)


def part_sizes(batch: int, group: int = 1) -> list[int]:
    """What a part of a batch may be, smallest first; `group` neighbours stay together.

    >>> part_sizes(12, 2)
    [2, 4, 6, 12]
    """
    group = max(group, 1)
    return [size for size in range(group, batch + 1, group) if batch % size == 0]


def require_repeatable(variant: Variant, *, recompute: bool) -> None:
    """Raise ConfigError where a pass that is computed again would be another one."""
    for name, module in variant.modules.items():
        for path, layer in module.named_modules():
            if recompute and isinstance(layer, _DropoutNd):
                raise ConfigError(
                    f"train.recompute: {name}.{path}: {type(layer).__name__} draws anew in each "
                    "pass; leave one of the two out"
                )


class Parts:
    """Into how many parts a process's volumes of a batch are divided, and how a phase runs so.

    Args:
        variant: whose phases are run.
        batch_size: volumes of a batch.
        micro_batch: volumes of a part; None, or as many as this process has: all of them at once.
        ranks: processes that share a batch.

    Attributes:
        size: volumes of a part.
        alone: whether no other process waits for this one.
        told: a line for each time that memory ran out, to be shown.

    Raises:
        ConfigError: parts of a batch that are not equal, would divide a group of
            `model.minibatch_stddev`, or that the variant knows nothing of.
    """

    def __init__(
        self, variant: Variant, batch_size: int, micro_batch: int | None, ranks: int = 1
    ) -> None:
        self._variant, self._batch_size, self._ranks = variant, batch_size, ranks
        self._batch = batch_size // ranks
        self.size = self._asked = min(micro_batch or self._batch, self._batch)
        self.told: list[str] = []
        self.alone = ranks == 1
        if self.size == self._batch:
            return
        if (reason := self._obstacle()) is not None:
            raise ConfigError(f"train.micro_batch: {reason}; leave it out")
        if self.size not in self._sizes():
            group = _group(variant)
            whole = f" in whole groups of model.minibatch_stddev {group}" if group > 1 else ""
            raise ConfigError(
                f"train.micro_batch: {self.size} does not divide the {self._batch} volumes of a "
                f"process{whole}; give one of {', '.join(map(str, self._sizes()))}"
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

    def run(
        self, phase: Phase, differentiate: Differentiate, clear: Callable[[], None], where: str
    ) -> Losses:
        """Loss and metrics of a phase, whose gradients are there then.

        Where memory runs out it begins again with half as many volumes at once, and so do all
        phases after it: nothing but gradients and notes of a pass has changed by then. A metric
        that some parts cannot say (NaN) is the mean of the others'.

        Args:
            phase: to run.
            differentiate: (loss of a part, its share) -> the same detached; adds to the gradients.
            clear: drops the gradients.
            where: the step, for what is told.
        """
        before = [notes_of(network) for network in _networks(self._variant)]
        while True:
            had = self.size
            try:
                return self._run(phase, differentiate, before)
            except (MemoryError, RuntimeError) as error:
                if not (ran_out_of_memory(error) and self._may_begin_again() and self.halve()):
                    raise
            # Here the error is gone, which held what the pass had kept.
            clear()
            self._restore(before)
            if _on_gpu():
                torch.cuda.empty_cache()
            self.told.append(
                f"{where}, phase {phase.name}: out of memory with {counted(had, 'volume')} at once;"
                f" from now on train.micro_batch {self.size}"
            )

    def too_large(self, error: BaseException) -> str:
        """What to say where memory ran out in spite of all."""
        less = ["model.fold", "a smaller data.shape"]
        if not getattr(self._variant, "recompute", False):
            less.insert(0, "train.recompute")
        if self._ranks > 1 and self.size > 1:
            less.insert(0, "a smaller train.micro_batch")
        told = [*str(error).splitlines(), type(error).__name__][0]
        return (
            f"out of device memory with {counted(self.size, 'volume')} at once (less is needed "
            f"with {', '.join(less[:-1])} or {less[-1]}) of "
            f"train.batch_size {self._batch_size}: {told}"
        )

    def found(self) -> dict[str, int]:
        """What memory has made of the size that was asked for; nothing where it suffices."""
        return {} if self.size == self._asked else {"micro_batch": self.size}

    def _may_begin_again(self) -> bool:
        # Ranks would have to agree while some of them wait for gradients.
        capturing = _on_gpu() and torch.cuda.is_current_stream_capturing()
        return self.alone and not capturing

    def _run(self, phase: Phase, differentiate: Differentiate, before: Notes) -> Losses:
        if self.count == 1:
            return differentiate(phase.loss, 1.0)
        if phase.part_loss is None:
            raise ConfigError(f"train.micro_batch: phase {phase.name} has no `part_loss`")
        losses, found = [], []
        for index in range(self.count):
            # Every part looks through the same weights, those of spectral norm, too.
            self._restore(before)
            compute = partial(phase.part_loss, Shard(index, self.count))
            loss, metrics = differentiate(compute, 1.0 / self.count)
            losses.append(loss)
            found.append(metrics)
        means = {name: torch.stack([one[name] for one in found]).nanmean() for name in found[0]}
        return torch.stack(losses).mean(), means

    def _restore(self, notes: Notes) -> None:
        for network, own in zip(_networks(self._variant), notes, strict=True):
            restore_notes(network, own)

    def _sizes(self) -> list[int]:
        return part_sizes(self._batch, _group(self._variant))

    def _obstacle(self) -> str | None:
        if not getattr(self._variant, "divisible", False):
            kind = type(self._variant).__name__
            return f"{kind} does not say `divisible`, that its phases have a `part_loss`"
        for path, layer in batch_norms(self._variant):
            return f"{path}: {layer} takes its statistics from the whole batch"
        return None


def _networks(variant: Variant) -> list[nn.Module]:
    """The modules that have parameters; a pool is none, and changes once a phase."""
    return [m for m in variant.modules.values() if next(m.parameters(), None) is not None]


def _on_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _group(variant: Variant) -> int:
    """Neighbours of a batch that have to stay together."""
    groups = [getattr(module, "group", 0) for module in variant.modules.values()]
    return max([1, *(group for group in groups if isinstance(group, int))])
