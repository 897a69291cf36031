"""What a checkpoint counts, in state.json; read strictly: what hashes well may still be wrong."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastgan.errors import CorruptFile
from fastgan.train.checkpoint import STATE, Checkpoint

__all__ = ["MOST_THREADS", "Counters", "counters_of"]

MOST_THREADS = 1024
"""A machine that had more would still compute the same with as many."""

Count = Annotated[int, Field(ge=0, le=2**62)]


class Counters(BaseModel):
    """What state.json holds.

    Attributes:
        step: steps done.
        volumes: real volumes drawn.
        skipped: updates left out, by phase.
        updates: modules that a phase updates.
        threads: of the process that wrote it; sums over another number round differently.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    step: Count
    volumes: Count
    skipped: dict[str, Count]
    updates: dict[str, list[str]]
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]


def counters_of(found: Checkpoint) -> Counters:
    """The counters of a checkpoint.

    Raises:
        CorruptFile: one is missing, unknown, of the wrong kind or out of range; names it.
    """
    try:
        counters = Counters.model_validate(found.counters)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        got = repr(first["input"])[:80]
        raise CorruptFile(f"{found.path / STATE}: {key}: {first['msg']}, got {got}") from None
    if counters.step != found.step:
        raise CorruptFile(
            f"{found.path / STATE}: step: {counters.step}, the checkpoint is of {found.step}"
        )
    return counters
