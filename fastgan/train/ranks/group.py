"""Several processes that train together, by torch.distributed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from fastgan.errors import ConfigError, RankError
from fastgan.random import Shard
from fastgan.slabs import Slabs
from fastgan.train.ranks.alone import Metrics, Ranks
from fastgan.train.ranks.bucket import Bucket
from fastgan.train.ranks.meeting import EndedElsewhere, Meeting
from fastgan.train.ranks.slabs import RankSlabs, Waited
from fastgan.train.signals import Interruption

if TYPE_CHECKING:
    from fastgan.train.ranks.launch import Place

__all__ = ["RankGroup"]

PATIENCE = 600.0
"""Seconds, where a rank may have good reasons to be late: its first step, a checkpoint's disk."""
PREPARING = 86400.0
"""Seconds to wait at the beginning, where the first rank may prepare volumes by the thousand."""
ROLL_CALL = 5.0
"""Seconds in which a rank that lives notices that the connections are gone."""
_T = TypeVar("_T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _RankShard(Shard):
    """A part of a batch whose other parts are in other processes; `slabs` ranks have the same."""

    def __init__(self, ranks: RankGroup, slabs: int = 1) -> None:
        super().__init__(ranks.index // slabs, ranks.count // slabs)
        self._ranks = ranks

    def gather(self, own: Tensor) -> Tensor:
        return self._ranks.gather(own)


class RankGroup(Ranks):
    """The processes that torchrun started.

    Args:
        meeting: their board of notes.
        store: where their connections find each other.
        place: of this process.
    """

    def __init__(self, meeting: Meeting, store: Store, place: Place) -> None:
        self.index, self.count = place.rank, place.world
        self.meeting, self._store, self._place = meeting, store, place
        self.shard = _RankShard(self)
        self._where = "at the beginning"
        self._phase = ""
        self._device = torch.device("cpu")
        self._met: dict[str, list[int]] = {}
        self._told = self._noted = self._waited_for = 0
        self._failed = False
        # Which signals were told with the last message of this step, and of the one before.
        self._asked: Tensor | None = None
        self._asked_before: Tensor | None = None

    def split(self, parts: Sequence[int]) -> None:
        """See Ranks; neighbouring ranks hold the slabs of a volume."""
        super().split(parts)
        count = parts[0]
        self.shard, self.slabs = _RankShard(self, count), Slabs()
        if count > 1:
            self.slabs = RankSlabs(self.index, self.count, count, self._of_slabs)

    def device(self, name: str) -> str:
        """The GPU of this process's place on its machine, of `auto` and `cuda`."""
        visible, needed = torch.cuda.device_count(), self._place.local_world
        if name == "cpu" or (name == "auto" and not visible):
            return "cpu"
        if name not in ("auto", "cuda"):
            raise ConfigError(
                f"train.device: {name!r} is one device for {self.count} ranks; use auto, cuda "
                "or cpu"
            )
        if visible < needed:
            raise ConfigError(
                f"train.device: {needed} ranks on a machine with {visible} CUDA devices; start as "
                "many processes as it has, or use cpu"
            )
        return f"cuda:{self._place.local_rank}"

    def agree(self, facts: Mapping[str, Any]) -> None:
        """See Ranks."""
        every = self.meeting.exchange("facts", facts, PREPARING, "before the first step")
        for key in {key: None for one in every for key in one}:
            for rank, one in enumerate(every):
                if one.get(key) != every[0].get(key):
                    raise RankError(
                        f"rank {rank} differs from rank 0 in {key}: {one.get(key)!r}, "
                        f"{every[0].get(key)!r}; all need the same files, settings and versions"
                    )

    def notes(self, what: str, own: Any) -> list[Any]:
        """See Ranks."""
        self._noted += 1
        key, doing = f"notes/{self._noted}", f"after {what}"
        return [one["note"] for one in self.meeting.exchange(key, {"note": own}, PREPARING, doing)]

    def connect(self, device: torch.device) -> None:
        """See Ranks; NCCL between GPUs, gloo between CPUs."""
        self._device = device
        backend = "gloo" if device.type == "cpu" else "nccl"
        try:
            dist.init_process_group(
                backend,
                store=PrefixStore("connections", self._store),
                rank=self.index,
                world_size=self.count,
                timeout=timedelta(seconds=self._place.seconds),
            )
        except RuntimeError as error:
            raise RankError(
                f"rank {self.index} of {self.count} cannot connect with the others by {backend}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        if isinstance(self.slabs, RankSlabs):
            self.slabs.connect(self._place.seconds)

    def leave(self) -> None:
        """Close the connections."""
        # NCCL's would wait for what a lost rank never sends; the end of the process closes them.
        if dist.is_initialized() and (self._device.type == "cpu" or not self._failed):
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def share(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """See Ranks."""
        with torch.no_grad():
            for part, tensors in parts.items():
                for name, tensor in tensors.items():
                    copy = tensor.detach().contiguous()
                    send = partial(dist.broadcast, copy, 0, async_op=True)
                    self._together(f"broadcast of {part}/{name}", send)
                    tensor.copy_(copy)

    def gather(self, own: Tensor) -> Tensor:
        """The rows of all ranks, in their order."""
        sent = own.detach().contiguous()
        every = [torch.empty_like(sent) for _ in range(self.count)]
        self._together("all_gather of volumes", lambda: dist.all_gather(every, sent, async_op=True))
        return torch.cat(every)

    def enter(self, step: int, phase: str) -> None:
        """See Ranks."""
        self._where, self._phase = f"step {step}, phase {phase}", phase

    def mean(
        self, gradients: Sequence[Tensor], loss: Tensor, metrics: Metrics
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See Ranks; one message, in which signals are told, too."""
        own = self._interruption.signal if self._interruption else None
        bucket = Bucket(gradients, loss, metrics, [float(number == own) for number in SIGNALS])
        self._meet(gradients)
        self._together(
            "all_reduce of gradients", lambda: dist.all_reduce(bucket.numbers, async_op=True)
        )
        loss, means, self._asked = bucket.spread(self.count)
        return loss, means

    def heed(self, interruption: Interruption) -> None:
        """See Ranks; who waits for another rank heeds it, too."""
        self._interruption = self.meeting.interruption = interruption

    def stopping(self) -> bool:
        """See Ranks; on a GPU a step later, so that the host need not wait for this one."""
        asked, self._asked = self._asked, None
        if self._device.type != "cpu":
            asked, self._asked_before = self._asked_before, asked
        if asked is None or self._interruption is None:
            return False
        for number, flag in zip(SIGNALS, asked.tolist(), strict=True):
            if flag > 0.0:
                self._interruption.signal = number
                return True
        return False

    def first_does(self, what: str, work: Callable[[], str | None]) -> str:
        """See Ranks."""
        if self.first:
            made = work() or ""
            self._tell(made)
            return made
        return self._hear(what, PATIENCE)

    def in_turn(self, what: str, work: Callable[[], _T]) -> _T:
        """See Ranks."""
        if not self.first:
            self._hear(what, PREPARING)
            return work()
        made = work()
        self._tell("")
        return made

    def _tell(self, made: str) -> None:
        self._told += 1
        self.meeting.post(f"told/{self._told}", {"made": made})

    def _hear(self, what: str, seconds: float) -> str:
        self._told += 1
        doing = f"{self._where}, while rank 0 writes {what}"
        return str(self.meeting.read(f"told/{self._told}", 0, seconds, doing)["made"])

    def _meet(self, gradients: Sequence[Tensor]) -> None:
        """Before a phase's first message: have all ranks there, with as many numbers."""
        numbers = sum(gradient.numel() for gradient in gradients)
        seen = self._met.setdefault(self._phase, [])
        if numbers in seen:
            return
        seen.append(numbers)
        key = f"phase/{self._phase}/{len(seen)}"
        every = self.meeting.exchange(key, {"gradients": numbers}, PATIENCE, self._where)
        for rank, one in enumerate(every):
            if one["gradients"] != every[0]["gradients"]:
                raise RankError(
                    f"{self._where}: rank {rank} has gradients of {one['gradients']} numbers, rank "
                    f"0 of {every[0]['gradients']}; all ranks need the same networks and losses"
                )

    def _of_slabs(self, what: str, begin: Callable[[], dist.Work | Waited | None]) -> None:
        """A message within a phase; all wait for each of the first time that the phase runs."""
        if self._phase and self._phase not in self._met:
            # Before any of them kernels may be compiled or tried.
            self._waited_for += 1
            self.meeting.exchange(f"slabs/{self._waited_for}", {}, PATIENCE, self._where)
        self._together(what, begin)

    def _together(self, what: str, begin: Callable[[], dist.Work | Waited | None]) -> None:
        work = None
        try:
            work = begin()
            if work is not None:
                work.wait()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # It holds the connections open.
            work = None
            raise self._lost(what, str(error)) from error

    def _lost(self, what: str, reason: str) -> RankError:
        """The error of a message that did not arrive: which ranks are no more."""
        self._failed = True
        self.meeting.post("lost", {"where": self._where})
        # Closed connections are noticed at once by those that still wait for this rank.
        self.leave()
        silent = self.meeting.silent("lost", ROLL_CALL)
        if any(rank not in silent for rank in range(self.index)):
            # The first rank that lives speaks for all.
            raise EndedElsewhere(RankError.exit_code, f"{self._where}: {what} failed: {reason}")
        if silent:
            named = ", ".join(map(str, silent))
            ranks = f"rank {named} was" if len(silent) == 1 else f"ranks {named} were"
            seconds = self._place.seconds
            why = f"{ranks} killed, ran out of memory, or did not answer for {seconds:g} s"
        else:
            why = f"all ranks live, so their network failed: {reason.splitlines()[0]}"
        return RankError(
            f"{self._where}: {what} failed: {why}; checkpoints are as they were, go on with "
            "--resume"
        )
