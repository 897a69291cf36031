"""What is kept beside a run for people to look at. Nothing in here can end a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fastgan.train import history
from fastgan.train.page import write_page
from fastgan.train.run_folder import RunFolder
from fastgan.train.signals import Interruption
from fastgan.train.tensorboard import TensorBoardFiles

__all__ = ["Views", "kept_views"]

SHARE = 0.01
"""Of the time of a training, what the views may take."""


class Run(Protocol):
    """The part of `fastgan.train.loop.Training` that is looked at."""

    run: RunFolder
    steps_done: int


class Views:
    """run.html, and TensorBoard files where the configuration asks for them.

    Args:
        training: whose folder is shown; at the step it begins with.
        say: told once of what cannot be written, and why; the training goes on.
    """

    def __init__(self, training: Run, say: Callable[[str], None]) -> None:
        self._training, self._say = training, say
        self._path = training.run.path
        self._told: set[str] = set()
        self._board: TensorBoardFiles | None = None
        self._due = 0.0
        if training.run.config().train.tensorboard:
            self._guard("tensorboard", self._open_board)

    def refresh(self) -> None:
        """Bring everything up to date, unless that took more than its share of the time already."""
        began = time.monotonic()
        if began < self._due:
            return
        self.write()
        ended = time.monotonic()
        self._due = ended + (ended - began) / SHARE

    def write(self) -> None:
        """Bring everything up to date."""
        self._guard("run.html", lambda: write_page(self._path))
        if self._board is not None:
            board = self._board
            self._guard("tensorboard", lambda: board.refresh(self._training.steps_done))

    def note(self, kind: str) -> None:
        """Add an event to the run's history."""
        step = self._training.steps_done
        self._guard("history.jsonl", lambda: history.note(self._path, kind, step))

    def end(self, stopped_by: int | None, error: BaseException | None) -> None:
        """Say how the run ended, everywhere, and close what is open."""
        step = self._training.steps_done
        self._guard("history.jsonl", lambda: history.note_end(self._path, step, stopped_by, error))
        self.write()
        if self._board is not None:
            self._guard("tensorboard", self._board.close)

    def _open_board(self) -> None:
        self._board = TensorBoardFiles(self._path, self._training.steps_done)

    def _guard(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, days of training are worth more than a page
            reason = f"{what}: not written: {error or type(error).__name__}"
            if reason not in self._told:
                self._told.add(reason)
                self._say(f"{reason}; the training goes on")


@contextmanager
def kept_views(
    training: Run, interruption: Interruption, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Keep the views of a run up to date until the end of the block, and say how it ended.

    Args:
        training: the run, restored to the step it begins with.
        interruption: the signal that stopped it, if any, at the end of the block.
        say: told of what cannot be written.

    Yields:
        What to call when a step has written something.
    """
    views = Views(training, say)
    views.note(history.BEGUN)
    views.write()
    say(f"to look at while it trains: {training.run.path / 'run.html'}")
    try:
        yield views.refresh
    except BaseException as error:
        views.end(None, error)
        raise
    views.end(interruption.signal, None)
