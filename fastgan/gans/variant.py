"""What the training loop needs to know of a GAN: its modules, and the phases of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.random import Draws

__all__ = ["AdamSettings", "NextBatch", "Phase", "RealBatch", "Variant"]


class RealBatch(Protocol):
    """The part of a batch of `fastgan.data` that a variant reads."""

    volumes: Tensor  # [B, C, D, H, W] in [-1, 1]
    labels: Tensor | None  # [B] int64


NextBatch = Callable[[str], RealBatch]


@dataclass(frozen=True)
class AdamSettings:
    """Settings of one phase's Adam optimiser."""

    lr: float
    beta1: float = 0.0
    beta2: float = 0.9


@dataclass(frozen=True)
class Phase:
    """One optimiser step.

    Attributes:
        name: "critic", "generator"; key of the variant's `optimisers`.
        updates: names of the modules whose parameters the step changes; no others need gradients.
        loss: computes (scalar loss, metrics as detached scalars) without a host sync; called once.
        after: called once when the step is done, without gradients, to bring the weights back
            into a set they must stay in. It is called after an update that was left out for NaN,
            too, so weights that are in the set already must come out bit for bit as they were.
    """

    name: str
    updates: tuple[str, ...]
    loss: Callable[[], tuple[Tensor, dict[str, Tensor]]]
    after: Callable[[], None] | None = None


class Variant(ABC):
    """A GAN as the loop sees it.

    Attributes:
        modules: by name; what checkpoints hold.
        optimisers: Adam settings by phase name.
        ema_of: names of the modules kept as a moving average, too.
        sample_shape: (C, D, H, W) of a generated volume.
        num_classes: K of a conditional variant, else 0.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, AdamSettings]
    ema_of: tuple[str, ...] = ("generator",)
    sample_shape: tuple[int, int, int, int]
    num_classes: int = 0

    @abstractmethod
    def phases(self, step: int, next_batch: NextBatch, draws: Draws) -> Iterator[Phase]:
        """The phases of one step, in order; each loss is evaluated before the next is drawn.

        Args:
            step: number of the step, from 0.
            next_batch: an independent real batch for this step and the purpose given.
            draws: all other random numbers, as a function of step and purpose.
        """

    @abstractmethod
    def sample(
        self,
        count: int,
        labels: Tensor | np.ndarray | int | None,
        rng: np.random.Generator,
        *,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Generate [count, C, D, H, W] without gradients, by `module` (EMA weights) if given."""

    def to(self, device: torch.device | str) -> Variant:
        """Move every module."""
        for module in self.modules.values():
            module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the first module's parameters are."""
        return next(next(iter(self.modules.values())).parameters()).device
