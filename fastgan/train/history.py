"""When a run began, went on and ended: history.jsonl, and what can be said of the run from it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastgan.guarded import append_to, read_plain
from fastgan.train import lock

__all__ = ["Event", "State", "note", "note_end", "read", "state"]

BEGUN, FINISHED, STOPPED, FAILED = "begun", "finished", "stopped", "failed"


@dataclass(frozen=True)
class Event:
    """One line of history.jsonl.

    Attributes:
        kind: "begun" (also when resumed), "finished", "stopped" (by a signal) or "failed".
        step: steps done then.
        at: seconds since 1970.
        reason: the signal's name, or the error.
    """

    kind: str
    step: int
    at: float
    reason: str = ""


@dataclass(frozen=True)
class State:
    """What a run is doing.

    Attributes:
        kind: "running", "finished", "stopped", "failed", "vanished" (ended without a word: killed,
            or the power went) or "unknown" (of a run that kept no history).
        step: steps done, as far as is known.
        reason: the signal's name, or the error.
        at: when that was, in seconds since 1970; None if unknown.
        begun: all the steps at which it was begun or resumed.
    """

    kind: str
    step: int
    reason: str = ""
    at: float | None = None
    begun: tuple[int, ...] = ()


def note(folder: Path, kind: str, step: int, reason: str = "") -> None:
    """Add an event, with the time.

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    path = folder / "history.jsonl"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    event = {"event": kind, "step": step, "at": at} | ({"reason": reason} if reason else {})
    append_to(path, json.dumps(event).encode() + b"\n")


def note_end(folder: Path, step: int, stopped_by: int | None, error: BaseException | None) -> None:
    """Add how a run ended: by an error, by a signal's number, or with all its steps done."""
    if error is not None:
        text = str(error).partition("\n")[0]
        note(folder, FAILED, step, text or type(error).__name__)
    elif stopped_by is not None:
        note(folder, STOPPED, step, signal.Signals(stopped_by).name)
    else:
        note(folder, FINISHED, step)


def read(folder: Path) -> list[Event]:
    """All events; [] of a run that has none. A line that was cut short is left out.

    Raises:
        BadFile: it is there and cannot be read.
    """
    path = folder / "history.jsonl"
    if not os.path.lexists(path):
        return []
    lines = read_plain(path).decode(errors="replace").splitlines()
    return [event for line in lines if (event := _event(line)) is not None]


def state(folder: Path, step: int, steps: int) -> State:
    """What the run is doing, in truth.

    Args:
        folder: the run folder.
        step: steps done, by metrics and checkpoints.
        steps: steps it was set to do.
    """
    events = read(folder)
    if not events:
        kind = "running" if lock.held(folder) else "finished" if step >= steps else "unknown"
        return State(kind, step)
    last = events[-1]
    begun = tuple(event.step for event in events if event.kind == BEGUN)
    if last.kind != BEGUN:
        return State(last.kind, last.step, last.reason, last.at, begun)
    kind = "running" if lock.held(folder) else "vanished"
    return State(kind, max(step, last.step), at=last.at, begun=begun)


def _event(line: str) -> Event | None:
    try:
        fields: dict[str, Any] = json.loads(line)
        at = datetime.fromisoformat(fields["at"]).timestamp()
        reason = str(fields.get("reason", ""))
        return Event(str(fields["event"]), int(fields["step"]), at, reason)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
