"""What the training loop needs to know of a GAN: its modules, and the phases of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.gans.settings import AdamSettings
from fastgan.nn import recomputed
from fastgan.random import Draws, Shard
from fastgan.slabs import Slabs

__all__ = ["NextBatch", "Phase", "Pictures", "RealBatch", "Recipe", "Variant"]


class RealBatch(Protocol):
    """The part of a batch of `fastgan.data` that a variant reads."""

    @property
    def volumes(self) -> Tensor:
        """[B, C, D, H, W] in [-1, 1]."""

    @property
    def labels(self) -> Tensor | None:
        """[B] int64, None without classes."""


NextBatch = Callable[[str], RealBatch]
PartLoss = Callable[[Shard], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Phase:
    """One optimiser step.

    Attributes:
        name: "critic", "generator"; key of the variant's `optimisers`.
        updates: names of the modules whose parameters the step changes; no others need gradients.
        loss: computes (scalar loss, metrics as detached scalars) without a host sync; called once.
            Whether metrics are computed changes no bit of the loss. The parameters of what it
            updates are lent to their uses (`fastgan.ops.casts`), so the loss may hold gradients of
            anything but those.
        after: called once when the step is done, without gradients, to bring the weights back
            into a set they must stay in. It is called after an update that was left out for NaN,
            too, so weights that are in the set already must come out bit for bit as they were.
        batches: purposes of the real batches that the loss depends on; None: those asked for since
            the phase before.
        part_loss: `loss` of a part of the volumes alone, for batches that memory does not hold at
            once. Called for `count` equal parts, in their order; the means of what they give are
            what `loss` gives. It may be called again from the first part on, of more parts. None:
            the phase runs as a whole only.
    """

    name: str
    updates: tuple[str, ...]
    loss: Callable[[], tuple[Tensor, dict[str, Tensor]]]
    after: Callable[[], None] | None = None
    batches: tuple[str, ...] | None = None
    part_loss: PartLoss | None = None


@dataclass(frozen=True)
class Recipe:
    """A step whose phases can run again on other numbers, as a captured CUDA graph does.

    Attributes:
        kind: equal of steps whose phases run the same operators.
        batches: purposes of the real batches that it reads.
        draws: (volumes in a batch, their dtype) -> all that it draws, on the host, by name.
        phases: (real batches, what was drawn on the device, volumes in a batch, their dtype) -> the
            phases. They depend on the step through these tensors and `kind` alone.
    """

    kind: Hashable
    batches: tuple[str, ...]
    draws: Callable[[int, torch.dtype], dict[str, Tensor]]
    phases: Callable[[NextBatch, Mapping[str, Tensor], int, torch.dtype], Iterator[Phase]]


@dataclass(frozen=True)
class Pictures:
    """Volumes to look at.

    Attributes:
        volumes: [N, C, D, H, W] in [-1, 1], line by line.
        columns: volumes in a line.
        caption: what they are, in a few words for people.
        titles: what each column shows; () where all are alike.
        lines: what each line shows; () where all are alike.
        metrics: what was measured on them, detached scalars, NaN where it says nothing. Those
            whose names begin with "alarm/" are shares of volumes that should be 0.
    """

    volumes: Tensor
    columns: int
    caption: str = ""
    titles: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Variant(ABC):
    """A GAN as the loop sees it.

    Attributes:
        modules: by name; what checkpoints hold, buffers included.
        optimisers: Adam settings by phase name.
        ema_of: names of the modules kept as a moving average, too.
        measured: whether phases compute metrics; the loop asks for none in steps it does not log.
        sharded: whether several processes can train it: all that it draws is drawn for whole
            batches, of which it takes the rows of `draws.shard`, and losses are means over volumes.
        divisible: whether every phase has a `part_loss`.
        at_once: volumes that pictures take at a time, at most; the loop gives it those of a phase.
        recompute: whether passes through networks keep their inputs alone, see `through`.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, AdamSettings]
    ema_of: tuple[str, ...] = ("generator",)
    measured: bool = True
    sharded: bool = False
    divisible: bool = False
    at_once: int | None = None
    recompute: bool = False

    @abstractmethod
    def phases(self, step: int, next_batch: NextBatch, draws: Draws) -> Iterator[Phase]:
        """The phases of one step, in order; each loss is evaluated before the next is drawn.

        Args:
            step: number of the step, from 0.
            next_batch: an independent real batch for this step and the purpose given.
            draws: all other random numbers, as a function of step and purpose.
        """

    def recipe(self, step: int, draws: Draws) -> Recipe | None:
        """The step taken apart; arguments as of `phases`.

        None: it cannot be, such as where phases draw while they run.
        """
        return None

    @abstractmethod
    def pictures(self, next_batch: NextBatch, draws: Draws) -> Pictures:
        """What a person looks at to follow the training, the same volumes every time.

        Args:
            next_batch: a real batch for the purpose given, at step 0.
            draws: all other random numbers, at step 0.

        Called without gradients, while the modules of `ema_of` hold their averages.
        """

    def through(self, name: str, *inputs: Tensor | None) -> Tensor:
        """What a module makes of its inputs; with `recompute` by `fastgan.nn.recomputed`.

        The pass that a penalty differentiates is none of these: its gradient is a graph.
        """
        module = self.modules[name]
        y: Tensor = recomputed(module, *inputs) if self.recompute else module(*inputs)
        return y

    def spread(self, slabs: Slabs) -> AbstractContextManager[None]:
        """Inside, volumes are slabs: real ones that are given, and those between the networks.

        All holders call the same methods with the same draws; losses and metrics are those of whole
        volumes on each, and gradients are shares whose mean over the holders is the gradient.

        Raises:
            ConfigError: this variant or its networks cannot be split.
        """
        if slabs.count == 1:
            return nullcontext()
        raise ConfigError(
            f"train.split: {type(self).__name__} does not say how volumes are split; leave it out, "
            "or share batches between processes"
        )

    def to(self, device: torch.device | str) -> Variant:
        """Move every module."""
        for module in self.modules.values():
            module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the first module's parameters are."""
        return next(next(iter(self.modules.values())).parameters()).device
