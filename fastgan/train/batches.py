"""Real batches by step and purpose, fetched ahead while the device works."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fastgan.data import Batch
from fastgan.data.normalise import Normalisation
from fastgan.data.workspace import Workspace
from fastgan.random import Draws, Shard
from fastgan.slabs import Slabs
from fastgan.spans import span
from fastgan.train.device import Copies

__all__ = ["Batches", "TrainingSet"]

MOST_THREADS = 8
"""That fill a batch: by then the memory is the limit."""


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
        """`batch_size` volumes, drawn by `rng` alone.

        It may take more by these names: `shard`, to read the rows of one process alone (positions
        stay those of the whole batch), and `workspace`, to lie in its memory and be filled by its
        threads.
        """


class Drawn(NamedTuple):
    """A batch of the host, and its tensors where they are on their way to a GPU."""

    batch: Batch
    sent: Copies.Sent | None


class Batches:
    """Independent batches, each a function of (seed, step, purpose) alone.

    Ahead, one thread draws batch after batch in the order they were asked for a step before; its
    rows are filled by more, and the copy to a GPU begins as soon as it is full. So the batches of
    one step lie on the device, and as many in pinned memory.

    Args:
        source: the data set; `sample` is called by one thread at a time.
        batch_size: volumes per batch, of all processes together.
        draws: the run's random streams, and the rows that this process takes.
        device: where the volumes are needed.
        ahead: draw the batches of the next step while the present one computes, on the guess that
            it asks for the same purposes; a wrong guess costs time and changes nothing. None: on
            a CUDA device, for on the CPU the threads would only compete with the networks.
        threads: that fill a batch, where it is drawn ahead; the bits are the same with any number.
            None: one a core that this process may use, shared with the other ranks, 8 at most.
        slabs: the parts of every volume, of which this process takes one; None: all of it.
    """

    def __init__(
        self,
        source: TrainingSet,
        batch_size: int,
        draws: Draws,
        device: torch.device,
        ahead: bool | None = None,
        threads: int | None = None,
        slabs: Slabs | None = None,
    ) -> None:
        self._slabs = slabs or Slabs()
        self._source, self._batch_size, self._draws = source, batch_size, draws
        self._device = device
        self._takes = inspect.signature(source.sample).parameters.keys()
        self._ahead: dict[tuple[int, str], Future[Drawn]] = {}
        ahead = device.type == "cuda" if ahead is None else ahead
        self._worker = ThreadPoolExecutor(1, "fastgan-data") if ahead else None
        self._copies = Copies(device) if device.type == "cuda" else None
        threads = threads or _threads(draws.shard.count * self._slabs.count)
        self._workspace = Workspace(threads if ahead else 1, pinned=device.type == "cuda")
        self.drawn: dict[str, Tensor] = {}
        """Purpose to positions in the data set, since `drawn` was last cleared."""
        self.count = 0
        """Volumes handed out, by all processes together."""
        self.waited = 0.0
        """Seconds that steps have waited for batches."""

    def next(self, step: int, purpose: str) -> Batch:
        """This process's rows, and slab of each, of the batch of `purpose` (any text) at `step`.

        Volumes and labels are on the device.

        Positions in the data set stay those of the whole batch.

        Raises:
            what the data set raises, at the step that needs the batch.
        """
        with span("data"):
            begun = time.perf_counter()
            waiting = self._ahead.pop((step, purpose), None)
            if waiting is not None:
                drawn = waiting.result()
            elif self._worker is not None:
                drawn = self._worker.submit(self._draw, step, purpose).result()
            else:
                drawn = self._draw(step, purpose)
            self.waited += time.perf_counter() - begun
            self.drawn[purpose] = drawn.batch.index
            self.count += self._batch_size
            if self._worker is not None:
                self._forget_before(step)
                self._ahead[step + 1, purpose] = self._worker.submit(self._draw, step + 1, purpose)
            if self._copies is None or drawn.sent is None:
                return drawn.batch
            return dataclasses.replace(drawn.batch, **self._copies.receive(drawn.sent))

    def peek(self, step: int, purpose: str) -> Batch:
        """The whole batch of `purpose` at `step`, to look at: neither counted nor noted."""
        batch = self._sample(step, purpose)
        there = {name: tensor.to(self._device) for name, tensor in _tensors(batch).items()}
        return dataclasses.replace(batch, **there)

    def close(self) -> None:
        """Stop reading ahead, end the threads and let go of what they have drawn."""
        if self._worker is not None:
            self._worker.shutdown(wait=True, cancel_futures=True)
        self._workspace.close()
        self._ahead.clear()

    def _draw(self, step: int, purpose: str) -> Drawn:
        batch = self._sample(step, purpose, self._draws.shard, self._workspace)
        if self._slabs.count > 1:
            # A copy, so that the rest of the volumes can go.
            slab = self._slabs.own(batch.volumes, 2).contiguous()
            batch = dataclasses.replace(batch, volumes=slab)
        return Drawn(batch, self._copies.send(_tensors(batch)) if self._copies else None)

    def _sample(
        self,
        step: int,
        purpose: str,
        shard: Shard | None = None,
        workspace: Workspace | None = None,
    ) -> Batch:
        rng = self._draws.numpy(step, f"batch/{purpose}")
        given: dict[str, Any] = {}
        if workspace is not None and "workspace" in self._takes:
            given["workspace"] = workspace
        if shard is not None and shard.count > 1 and "shard" in self._takes:
            given["shard"], shard = shard, None
        batch = self._source.sample(self._batch_size, rng, **given)
        if shard is None or shard.count == 1:
            return batch
        own = {name: shard.of(tensor) for name, tensor in _tensors(batch).items()}
        return dataclasses.replace(batch, **own)

    def _forget_before(self, step: int) -> None:
        for key in [key for key in self._ahead if key[0] < step]:
            self._ahead.pop(key).cancel()


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """Volumes and labels of a batch, by field; positions stay where the host reads them."""
    found = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: t for name, t in found.items() if name != "index" and isinstance(t, Tensor)}


def _threads(ranks: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_THREADS, (cores or 1) // ranks))
