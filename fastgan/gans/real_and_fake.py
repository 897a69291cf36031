"""What the critic's updates of one step look at: real volumes, and generated ones beside them.

The generator stays as it is while the critic is trained, so one pass of it can serve several
updates: where volumes are small, launches take the time, not voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans.step_draws import StepDraws, UpdateDraws
from fastgan.gans.variant import RealBatch

__all__ = ["VOXELS_AT_ONCE", "CriticInput", "RealAndFake", "generates_ahead"]

VOXELS_AT_ONCE = 2**22
"""Generated in one pass at most, but for an update's own: 16 channels of them are 256 MB."""


def generates_ahead(device: torch.device) -> bool:
    """Not on a CPU, where a launch costs nothing and a smaller batch stays in the cache."""
    return device.type != "cpu"


class CriticInput(NamedTuple):
    """What one update of the critic looks at."""

    real: Tensor  # [B, C, D, H, W]
    fake: Tensor  # like real, of the latents that were drawn
    labels: Tensor | None  # [B] of both
    drawn: UpdateDraws


class RealAndFake:
    """Made when an update asks for it, for as many updates as fit in `at_once` voxels.

    Args:
        purposes: of the critic's updates, in the order in which they will ask.
        batch_of: purpose -> its real batch; called once for each.
        drawn_by: what the updates draw.
        generate: (z [B, L], labels [B] or None) -> [B, C, D, H, W], without gradients.
        labelled: the networks are conditional.
        at_once: voxels generated in one pass; 0: those of one update.
    """

    def __init__(
        self,
        purposes: Sequence[str],
        batch_of: Callable[[str], RealBatch],
        drawn_by: StepDraws,
        generate: Callable[[Tensor, Tensor | None], Tensor],
        *,
        labelled: bool,
        at_once: int,
    ) -> None:
        self._waiting, self._batch_of, self._drawn_by = list(purposes), batch_of, drawn_by
        self._generate, self._labelled, self._at_once = generate, labelled, at_once
        self._read: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._made: dict[str, CriticInput] = {}

    def of(self, purpose: str) -> CriticInput:
        """What the update of this purpose looks at, on the device.

        Raises:
            ConfigError: the networks are conditional and the batch has no labels.
        """
        if purpose not in self._made:
            self._make(self._group(purpose))
        return self._made.pop(purpose)

    def _group(self, purpose: str) -> list[str]:
        """This update and those behind it that share its pass of the generator."""
        place = self._waiting.index(purpose)
        behind, self._waiting = self._waiting[place + 1 :], self._waiting[place + 1 :]
        first = self._real(purpose)
        each = first.shape[0] * math.prod(first.shape[2:])
        group = [purpose]
        for other in behind[: max(self._at_once // max(each, 1), 1) - 1]:
            real = self._real(other)
            if real.shape != first.shape or real.dtype != first.dtype:
                break
            group.append(self._waiting.pop(0))
        return group

    def _real(self, purpose: str) -> Tensor:
        if purpose not in self._read:
            batch = self._batch_of(purpose)
            if self._labelled and batch.labels is None:
                raise ConfigError("a conditional variant needs labels, the data set has none")
            device = self._drawn_by.device
            labels = (
                batch.labels.to(device) if self._labelled and batch.labels is not None else None
            )
            self._read[purpose] = batch.volumes.to(device), labels
        return self._read[purpose][0]

    def _make(self, group: list[str]) -> None:
        real, labels = zip(*(self._read.pop(purpose) for purpose in group), strict=True)
        drawn = [
            self._drawn_by.of(purpose, len(volumes), volumes.dtype)
            for purpose, volumes in zip(group, real, strict=True)
        ]
        latent = _joined([one.latent for one in drawn])
        fake = self._generate(latent, _joined(labels) if self._labelled else None)
        parts = fake.to(real[0].dtype).chunk(len(group))
        made = map(CriticInput, real, parts, labels, drawn)
        self._made.update(zip(group, made, strict=True))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
