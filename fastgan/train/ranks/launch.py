"""What torchrun says of this process, and joining the others."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from fastgan.errors import ConfigError, RankError
from fastgan.guarded import typed
from fastgan.train.ranks.alone import Ranks
from fastgan.train.ranks.group import RankGroup
from fastgan.train.ranks.meeting import EndedElsewhere, Meeting

__all__ = ["Place", "joined", "launched"]

SECONDS = 20.0
"""By default; torchrun kills what is left 30 s later, so all ranks end within a minute."""

LATE = 4.0
"""Times as long it may take until all are there: they load their libraries first."""

_joins = itertools.count()


@dataclass(frozen=True)
class Place:
    """One process among those that torchrun started.

    Attributes:
        rank: of this process, from 0.
        world: number of processes.
        local_rank: of this process among those of its machine.
        local_world: number of processes on its machine.
        store: host and port of torchrun's store.
        seconds: to wait for another rank.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    store: tuple[str, int]
    seconds: float


def launched() -> Place | None:
    """What torchrun says; None without it, or where it started one process alone.

    Raises:
        ConfigError: a variable that cannot be.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or _number("WORLD_SIZE") == 1:
        return None
    rank, world = _number("RANK"), _number("WORLD_SIZE")
    if not 0 <= rank < world:
        raise ConfigError(f"RANK: {rank} is no rank of {world} processes")
    text = os.environ.get("FASTGAN_RANK_TIMEOUT", str(SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e6:
        raise ConfigError(f"FASTGAN_RANK_TIMEOUT: must be seconds above 0, got {text!r}")
    return Place(
        rank,
        world,
        _number("LOCAL_RANK"),
        _number("LOCAL_WORLD_SIZE"),
        (os.environ.get("MASTER_ADDR", ""), _number("MASTER_PORT")),
        seconds,
    )


@contextmanager
def joined(verb: str = "train") -> Iterator[Ranks]:
    """The ranks that torchrun started, until the end of the block; without it, this process alone.

    An error that leaves the block is told to the others, which then end, too.

    Args:
        verb: what they do, for errors.

    Raises:
        ConfigError: torchrun's variables cannot be.
        RankError: the store cannot be reached, or its port is taken.
        EndedElsewhere: in place of an error that a rank before this one reports.
    """
    place = launched()
    if place is None:
        yield Ranks()
        return
    if dist.is_initialized():
        raise ConfigError("torch.distributed is in use already: fit joins torchrun's ranks itself")
    store = PrefixStore(f"fastgan/{next(_joins)}", _open_store(place))
    ranks = RankGroup(Meeting(store, place.rank, place.world), store, place)
    try:
        ranks.meeting.exchange("here", {}, LATE * place.seconds, "at the beginning")
        # So that the others are told what the command line will say.
        with typed(verb):
            yield ranks
    except (EndedElsewhere, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        ranks.meeting.report(error)
        raise
    finally:
        ranks.leave()


def _open_store(place: Place) -> Store:
    host, port = place.store
    limit = timedelta(seconds=place.seconds)
    try:
        found = next(rendezvous("env://", place.rank, place.world, timeout=limit))
        return cast(Store, found[0])
    except (RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        what = f"rank {place.rank} of {place.world}: no store at {host}:{port}"
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise RankError(
                f"{what}: another program listens there; give torchrun another --master-port, or "
                "--standalone"
            ) from error
        raise RankError(
            f"{what} within {place.seconds:g} s (FASTGAN_RANK_TIMEOUT): is every node there, with "
            f"the same address? {line}"
        ) from error


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"{name}: torchrun sets it to a whole number, got {text!r}; start by torchrun"
        ) from None
