"""How far a run is: a live line on a terminal, one plain line per report elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

from fastgan.terminal import escaped, terminal_of

__all__ = ["Progress", "describe"]


class Progress:
    """Reports a run of `steps` steps to `stream` (standard error by default).

    >>> import io
    >>> with Progress(10, stream=io.StringIO()) as progress:
    ...     progress.report(5, {"critic/loss": 0.25}, volumes_per_second=8.0, memory=2**20)
    """

    def __init__(self, steps: int, start: int = 0, stream: TextIO | None = None) -> None:
        self._steps, self._start = steps, start
        self._stream = terminal_of(stream or sys.stderr)
        self._began, self._first = time.monotonic(), math.inf
        self._figures = ""
        self._bar: Any = None
        self._task: Any = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            figures = TextColumn("{task.description}", markup=False)
            columns = (BarColumn(20), MofNCompleteColumn(), figures)
            self._bar = Bar(*columns, console=Console(file=self._stream))
            self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps done; says nothing where there is no bar."""
        if step == self._start + 1:
            self._first = time.monotonic()
        if self._bar is not None:
            line = f"{self._figures}  left {clock(self._left(step))}" if self._figures else ""
            self._bar.update(self._task, completed=step, description=line)

    def report(
        self, step: int, metrics: Mapping[str, float], volumes_per_second: float, memory: int
    ) -> None:
        """Show the figures after `step` steps; memory in bytes."""
        self._figures = describe(metrics, volumes_per_second, memory)
        line = f"{self._figures}  left {clock(self._left(step))}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=line)
        else:
            self.say(f"step {step}/{self._steps}  {line}")

    def _left(self, step: int) -> float:
        """Seconds to the end, by the steps after the first, which is slower than the others."""
        now, done = time.monotonic(), step - self._start
        each = (now - self._first) / (done - 1) if done > 1 else now - self._began
        if not math.isfinite(each):
            each = (now - self._began) / done
        return each * (self._steps - step)

    def say(self, text: str) -> None:
        """Print one line without breaking the bar."""
        text = escaped(text)
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)


def describe(metrics: Mapping[str, float], volumes_per_second: float, memory: int) -> str:
    """The figures of a report in one line.

    Volumes are real ones, as many as the critic consumes in a second: of a step with five updates
    of the critic, five batches.
    """
    values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return escaped(values) + f"  {volumes_per_second:.3g} real volumes/s  {memory / 2**30:.2f} GiB"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
