"""SIGTERM and SIGINT: finish the step, save, leave; the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "watch_signals"]


class Interruption:
    """Which signal has asked the run to stop, if any."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self) -> None:
        """Stop the program, after the state is saved.

        Raises:
            KeyboardInterrupt: for SIGINT (exit code 130 on the command line).
            SystemExit: 128 + the signal's number, 143 for SIGTERM.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def watch_signals() -> Iterator[Interruption]:
    """Note the first SIGTERM or SIGINT instead of dying of it; die of the second.

    Only the main thread can own signals; elsewhere nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interruption:
            # No clean-up: a save in progress leaves only its .tmp folder, which nobody reads.
            os._exit(128 + number)
        interruption.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
