"""Real batches by step and purpose, fetched ahead while the device works."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from fastgan.data import Batch
from fastgan.data.normalise import Normalisation
from fastgan.random import Draws, Shard
from fastgan.slabs import Slabs
from fastgan.spans import span

__all__ = ["Batches", "TrainingSet"]


class TrainingSet(Protocol):
    """What training needs of a data set; `fastgan.data.Dataset` and `Unpaired` have it."""

    fingerprint: str  # sha256 hex of what was read
    shape: tuple[int, int, int]  # D, H, W of every volume
    channels: int
    spacing: tuple[float, float, float]  # mm along D, H, W
    classes: tuple[str, ...]  # () without labels
    prior: np.ndarray  # [K] share of each class
    normalisation: Normalisation  # how [-1, 1] relates to the files' units, as JSON values

    def __len__(self) -> int: ...

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` volumes, drawn by `rng` alone."""


class ReadByRows(TrainingSet, Protocol):
    """A data set that reads, of the batch it draws, what one of several processes needs."""

    def sample(
        self, batch_size: int, rng: np.random.Generator, shard: Shard | None = None
    ) -> Batch:
        """The volumes and labels of the shard; positions are those of the whole batch."""


class Batches:
    """Independent batches, each a function of (seed, step, purpose) alone.

    Args:
        source: the data set; read by one thread at a time.
        batch_size: volumes per batch, of all processes together.
        draws: the run's random streams, and the rows that this process takes.
        device: where the volumes are needed.
        ahead: draw the batches of the next step while the present one computes, on the guess that
            it asks for the same purposes; a wrong guess costs time and changes nothing. None: on
            a CUDA device, for on the CPU the thread would only compete with the networks.
        slabs: the parts of every volume, of which this process takes one; None: all of it.
    """

    def __init__(
        self,
        source: TrainingSet,
        batch_size: int,
        draws: Draws,
        device: torch.device,
        ahead: bool | None = None,
        slabs: Slabs | None = None,
    ) -> None:
        self._slabs = slabs or Slabs()
        self._source, self._batch_size, self._draws = source, batch_size, draws
        self._device = device
        self._reads_rows = "shard" in inspect.signature(source.sample).parameters
        self._ahead: dict[tuple[int, str], Future[Batch]] = {}
        ahead = device.type == "cuda" if ahead is None else ahead
        self._worker = ThreadPoolExecutor(1, "fastgan-data") if ahead else None
        self.drawn: dict[str, Tensor] = {}
        """Purpose to positions in the data set, since `drawn` was last cleared."""
        self.count = 0
        """Volumes handed out, by all processes together."""

    def next(self, step: int, purpose: str) -> Batch:
        """This process's rows, and slab of each, of the batch of `purpose` (any text) at `step`.

        Volumes and labels are on the device.

        Positions in the data set stay those of the whole batch.
        """
        with span("data"):
            waiting = self._ahead.pop((step, purpose), None)
            if waiting is not None:
                batch = waiting.result()
            elif self._worker is not None:
                batch = self._worker.submit(self._draw, step, purpose).result()
            else:
                batch = self._draw(step, purpose)
            self.drawn[purpose] = batch.index
            self.count += self._batch_size
            if self._worker is not None:
                self._forget_before(step)
                self._ahead[step + 1, purpose] = self._worker.submit(self._draw, step + 1, purpose)
            return _each_tensor(batch, lambda tensor: tensor.to(self._device, non_blocking=True))

    def peek(self, step: int, purpose: str) -> Batch:
        """The whole batch of `purpose` at `step`, to look at: neither counted nor noted."""
        return _each_tensor(self._sample(step, purpose), lambda tensor: tensor.to(self._device))

    def close(self) -> None:
        """Stop reading ahead."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)

    def _draw(self, step: int, purpose: str) -> Batch:
        batch = self._sample(step, purpose, self._draws.shard)
        if self._slabs.count > 1:
            # A copy, so that the rest of the volumes can go.
            slab = self._slabs.own(batch.volumes, 2).contiguous()
            batch = dataclasses.replace(batch, volumes=slab)
        if self._device.type != "cuda":
            return batch
        # Pinned memory lets the copy run beside the kernels.
        return _each_tensor(batch, Tensor.pin_memory)

    def _sample(self, step: int, purpose: str, shard: Shard | None = None) -> Batch:
        rng = self._draws.numpy(step, f"batch/{purpose}")
        if shard is None or shard.count == 1:
            return self._source.sample(self._batch_size, rng)
        if self._reads_rows:
            return cast(ReadByRows, self._source).sample(self._batch_size, rng, shard)
        return _each_tensor(self._source.sample(self._batch_size, rng), shard.of)

    def _forget_before(self, step: int) -> None:
        for key in [key for key in self._ahead if key[0] < step]:
            self._ahead.pop(key).cancel()


def _each_tensor(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The batch with its volumes and labels changed; positions stay where the host reads them."""
    changed: dict[str, Any] = {
        field.name: change(value)
        for field in dataclasses.fields(batch)
        if field.name != "index" and isinstance(value := getattr(batch, field.name), Tensor)
    }
    return dataclasses.replace(batch, **changed)
