"""What ranks tell each other through torchrun's store, beside their tensors: who is where."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch.distributed.distributed_c10d import Store

from fastgan.errors import FastganError, RankError
from fastgan.train.signals import Interruption

__all__ = ["EndedElsewhere", "Meeting"]

LONGEST_PAUSE = 0.05
"""Seconds between two looks at the store."""
SAME_ERROR = 1.0
"""Seconds in which another rank says the same of an error that all of them have."""
GRACE = 10.0
"""Seconds to wait for a rank after SIGTERM: torchrun sends it when a rank has died, too."""

_T = TypeVar("_T")


class EndedElsewhere(SystemExit):
    """Another rank has failed and says why; this one ends without a word.

    Args:
        code: the exit code of both.
        why: for the history of the run.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code)
        self._why = why

    def __str__(self) -> str:
        return self._why


class Meeting:
    """The ranks' board of notes.

    Args:
        store: of torchrun.
        index: of this rank.
        count: of ranks.
    """

    def __init__(self, store: Store, index: int, count: int) -> None:
        self._store, self.index, self.count = store, index, count
        self.interruption: Interruption | None = None

    def post(self, key: str, content: Mapping[str, Any]) -> None:
        """Leave this rank's note under `key`, once."""
        text = json.dumps(content)
        self._ask(lambda: self._store.set(f"{key}/{self.index}", text))

    def posted(self, key: str, rank: int) -> bool:
        """Whether a rank has left a note under `key`."""
        return bool(self._ask(lambda: self._store.check([f"{key}/{rank}"])))

    def read(self, key: str, rank: int, seconds: float, doing: str) -> dict[str, Any]:
        """The note of a rank, waited for; `doing` says for what, in an error.

        Raises:
            EndedElsewhere: that rank has ended with an error of its own.
            RankError: it says nothing for so long.
        """
        began, pause, told = time.monotonic(), 0.001, False
        until = began + seconds
        while not self.posted(key, rank):
            self._end_with(rank)
            if self.interruption and not told:
                until, told = min(until, time.monotonic() + GRACE), True
            if time.monotonic() > until:
                raise RankError(
                    f"{doing}: rank {rank} of {self.count} was killed, or did not answer for "
                    f"{time.monotonic() - began:.0f} s"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return self._note(key, rank)

    def exchange(
        self, key: str, content: Mapping[str, Any], seconds: float, doing: str
    ) -> list[dict[str, Any]]:
        """Leave a note and read everybody's, in the order of ranks."""
        self.post(key, content)
        return [self.read(key, rank, seconds, doing) for rank in range(self.count)]

    def silent(self, key: str, seconds: float) -> list[int]:
        """Which ranks leave no note under `key` within so many seconds.

        Raises:
            EndedElsewhere: one of them has ended with an error of its own.
        """
        until = time.monotonic() + seconds
        missing = [rank for rank in range(self.count) if rank != self.index]
        while missing and time.monotonic() < until:
            missing = [rank for rank in missing if not self.posted(key, rank)]
            for rank in missing:
                self._end_with(rank)
            time.sleep(LONGEST_PAUSE)
        return missing

    def report(self, error: BaseException) -> None:
        """Tell the others with what this rank ends.

        Raises:
            EndedElsewhere: a rank before this one ends with the same words, and says them.
        """
        code = error.exit_code if isinstance(error, FastganError) else 70
        note = {"code": code, "text": f"{type(error).__name__}: {error}"}
        try:
            self.post("ended", note)
            until = time.monotonic() + SAME_ERROR
            while self.index and time.monotonic() < until:
                for rank in range(self.index):
                    if self.posted("ended", rank) and self._note("ended", rank) == note:
                        raise EndedElsewhere(code, str(error)) from error
                time.sleep(LONGEST_PAUSE)
        except RankError:
            # The store is gone; what there is to say is in `error`.
            return

    def _end_with(self, rank: int) -> None:
        """Raise EndedElsewhere if a rank has ended with an error of its own."""
        if self.posted("ended", rank):
            note = self._note("ended", rank)
            raise EndedElsewhere(note["code"], f"rank {rank} ended: {note['text']}")

    def _note(self, key: str, rank: int) -> dict[str, Any]:
        text = self._ask(lambda: self._store.get(f"{key}/{rank}"))
        note: dict[str, Any] = json.loads(text)
        return note

    def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except RuntimeError as error:
            line = str(error).splitlines()[0]
            raise RankError(f"torchrun's store no longer answers: {line}") from error
