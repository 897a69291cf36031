"""A trial in a process of its own, forked from one that has loaded everything already."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastgan.errors import FastganError

DONE, REFUSED, UNTYPED = 0, 40, 41
WORDS = 2000
# Where strace is told to wait for the child, which it stops at its first system call.
POLL = 0.005


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        kind: done | refused (a typed error) | untyped | hang | crash | killed (by us).
        text: what it returned, or the error.
    """

    kind: str
    text: str = ""


class Child:
    """A forked process that runs a function and tells what it returned.

    Args:
        work: its result is told as text.
        gate: wait for `go` before the work, so that a tracer can be attached.
    """

    def __init__(self, work: Callable[[], object], *, gate: bool = False) -> None:
        self.read, write = os.pipe()
        opening, self.opened = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.read)
            os.close(self.opened)
            _live(work, write, opening if gate else None)
        os.close(write)
        os.close(opening)

    def go(self) -> None:
        """Let a gated child begin."""
        os.write(self.opened, b"!")

    def kill(self) -> None:
        """SIGKILL, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def outcome(self, seconds: float, killed: bool = False) -> Outcome:
        """Wait for its end, at most so long; `killed`: SIGKILL is expected."""
        deadline, hung = time.monotonic() + seconds, False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                hung = True
                self.kill()
                _, status = os.waitpid(self.pid, 0)
                break
            time.sleep(POLL)
        parts = []
        while part := os.read(self.read, 1 << 16):
            parts.append(part)
        os.close(self.read)
        os.close(self.opened)
        text = b"".join(parts).decode(errors="replace")
        if hung:
            return Outcome("hang", text)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number == signal.SIGKILL and killed:
                return Outcome("killed")
            return Outcome("crash", f"signal {number}: {text}")
        kinds = {DONE: "done", REFUSED: "refused", UNTYPED: "untyped"}
        code = os.WEXITSTATUS(status)
        return Outcome(kinds.get(code, "untyped"), text or f"exit {code}")


def outcome_of(work: Callable[[], object], seconds: float = 60.0) -> Outcome:
    """Run a function in a child of its own."""
    return Child(work).outcome(seconds)


def _live(work: Callable[[], object], write: int, gate: int | None) -> None:
    faulthandler.disable()  # a crash is told by the parent
    torch.set_num_threads(1)  # a fork has none of its parent's pool, and would wait for them
    code, text = UNTYPED, ""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        if gate is not None:
            os.read(gate, 1)
        text = str(work())
        code = DONE
    except FastganError as error:
        code, text = REFUSED, f"{type(error).__name__}: {error}"
    except BaseException as error:
        import traceback

        code = UNTYPED
        with contextlib.suppress(BaseException):
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            where = "; ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames)
            text = f"{type(error).__name__}: {error} at {where}"
    finally:
        with contextlib.suppress(BaseException):
            os.write(write, text[:WORDS].encode(errors="replace"))
        os._exit(code)
