"""All that the updates of one step draw, brought to the device in one copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.gans.augment import Moves
from fastgan.random import Shard, placed_together

__all__ = ["StepDraws", "UpdateDraws"]


class UpdateDraws(NamedTuple):
    """What one update of an adversarial game draws."""

    latent: Tensor  # [B, L]
    moves: Moves  # of the augmentation
    share: Tensor | None = None  # [B] of real volumes in the penalty's mix
    labels: Tensor | None = None  # [B] int64 of volumes that no real batch has labels for

    def part(self, shard: Shard, batches: int) -> UpdateDraws:
        """What a shard needs of it; `batches` of volumes are moved together."""
        return UpdateDraws(
            shard.of(self.latent),
            tuple(shard.of(parameter, batches) for parameter in self.moves),
            None if self.share is None else shard.of(self.share),
            None if self.labels is None else shard.of(self.labels),
        )


Draw = Callable[[str, int, torch.dtype], UpdateDraws]


class StepDraws:
    """The draws of a step, made when its first batch is there: only then is their size known.

    Args:
        purposes: of the step's updates.
        draw: (purpose, volumes in a batch, their dtype) -> what the update draws, on the host.
        device: where it is needed.
    """

    def __init__(self, purposes: Sequence[str], draw: Draw, device: torch.device) -> None:
        self._purposes, self._draw, self.device = tuple(purposes), draw, device
        self._placed: dict[str, UpdateDraws] = {}
        self._drawn_for: tuple[int, torch.dtype] | None = None

    def of(self, purpose: str, size: int, dtype: torch.dtype) -> UpdateDraws:
        """What an update with `size` real volumes of `dtype` draws, on the device."""
        if self._drawn_for != (size, dtype):
            self.use(placed_together(self.on_host(size, dtype), self.device), size, dtype)
        return self._placed[purpose]

    def on_host(self, size: int, dtype: torch.dtype) -> dict[str, Tensor]:
        """All draws of the step by name, where they are made."""
        return {
            f"{purpose}/{field}/{i}": tensor
            for purpose in self._purposes
            for field, value in self._draw(purpose, size, dtype)._asdict().items()
            for i, tensor in enumerate(value if isinstance(value, tuple) else (value,))
            if tensor is not None
        }

    def use(self, there: Mapping[str, Tensor], size: int, dtype: torch.dtype) -> None:
        """From now on give these, which have the names and shapes of `on_host`."""
        self._drawn_for = (size, dtype)
        self._placed = {
            purpose: UpdateDraws(
                latent=there[f"{purpose}/latent/0"],
                moves=tuple(t for name, t in there.items() if name.startswith(f"{purpose}/moves/")),
                share=there.get(f"{purpose}/share/0"),
                labels=there.get(f"{purpose}/labels/0"),
            )
            for purpose in self._purposes
        }
