"""A GPU kernel proves and times itself the first time that `auto` meets it on a machine.

The trial runs in a child process with a limit. Kernels that are right and faster than PyTorch's own
path are taken from then on; those that are wrong, crash or never end are not, and nothing but the
trial's seconds is lost. `verdicts` keeps what was found.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fastgan.errors import ConfigError
from fastgan.ops.implementations import verdicts
from fastgan.ops.implementations.verdicts import Verdict
from fastgan.terminal import escaped

__all__ = ["LIMITS", "MODES", "VARIABLE", "mode", "obstacle", "told"]

VARIABLE = "FASTGAN_CERTIFY"
MODES = ("auto", "off", "now")
# Seconds of a trial; Triton compiles its kernels in it.
LIMITS = {"native": 90.0, "triton": 300.0}
# Beyond a trial's limit, for whoever waits for another process's.
_GRACE = 20.0
# The child finds what this process finds, wherever either was started.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fastgan.ops.proof.trial import main; main()"
)
_STARTED = time.time()
_turn = threading.Lock()
_known: dict[tuple[str, str, int], str | None] = {}


def mode() -> str:
    """FASTGAN_CERTIFY, checked.

    Raises:
        ConfigError: another word.
    """
    found = os.environ.get(VARIABLE) or "auto"
    if found not in MODES:
        raise ConfigError(f"{VARIABLE}: must be one of {', '.join(MODES)}, got {found!r}")
    return found


def obstacle(
    op: str, name: str, device: torch.device, sources: str | None, *, tries: bool = True
) -> str | None:
    """Why `auto` must not take an implementation on a GPU: None where a trial here has proven it.

    Args:
        op: name of an operator, such as "norm_act".
        name: of its implementations, such as "triton".
        device: a GPU.
        sources: digest of the kernels' sources.
        tries: make the trial where there is none yet; otherwise say that it is to come.
    """
    if mode() == "off":
        return f"not tried on this machine ({VARIABLE}=off)"
    at = (op, name, device.index or 0)
    if at in _known:
        return _known[at]
    with _turn:  # CUDA backwards run in threads of autograd's own
        if at not in _known:
            if not tries:
                return _answer_of(verdicts.find(_key(op, name, device, sources)))
            if _capturing():
                return "a CUDA graph is being captured, and its trial has not run yet"
            _known[at] = _settled(op, name, device, sources)
        return _known[at]


def told(device: torch.device, sources: dict[tuple[str, str], str | None]) -> Iterator[str]:
    """A line for each verdict on a device, for a person; nothing is tried.

    Args:
        device: a GPU.
        sources: digest of the kernels' sources by operator and implementation.
    """
    for (op, name), digest in sources.items():
        found = verdicts.find(_key(op, name, device, digest))
        line = f"{op} {name}: "
        if found is None:
            yield f"{line}not tried yet; its trial runs at first use ({VARIABLE}={mode()})"
        else:
            yield f"{line}{_told(found[0])}; {found[1]}"


def _key(op: str, name: str, device: torch.device, sources: str | None) -> dict[str, Any]:
    return verdicts.identity(op, name, device, sources)


def _capturing() -> bool:
    begun = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(begun) and torch.cuda.is_current_stream_capturing()


def _settled(op: str, name: str, device: torch.device, sources: str | None) -> str | None:
    """The answer from a file, or from a trial: by this process, or by another that is at it."""
    key = _key(op, name, device, sources)
    since = _STARTED if mode() == "now" else 0.0
    if (found := verdicts.find(key, since)) is not None:
        return _answer_of(found)
    with verdicts.turn(key, LIMITS[name] + _GRACE) as ours:
        if (found := verdicts.find(key, since)) is not None:
            return _answer_of(found)
        if not ours:
            return "another process is trying it, and takes too long"
        verdict = _tried(op, name, device)
        if isinstance(verdict, str):
            _say(f"{op} {name} on {key['device']}: not tried, {verdict}")
            return f"its trial could not be made: {verdict}"
        path = verdicts.keep(key, verdict)
        kept = f"kept in {path.parent}" if path else "kept nowhere: no folder can be written to"
        _say(f"{op} {name} on {key['device']}: {_told(verdict)} ({verdict.seconds:.1f} s; {kept})")
        return _answer(verdict, path)


def _say(line: str) -> None:
    print(f"fastgan: {escaped(line)}", file=sys.stderr, flush=True)


def _answer_of(found: tuple[Verdict, Path] | None) -> str | None:
    if found is None:
        return f"not tried yet: its trial runs at first use ({VARIABLE}={mode()})"
    return _answer(*found)


def _answer(verdict: Verdict, path: Path | None) -> str | None:
    if verdict.outcome == "proven" and verdict.ratio > 1.0:
        return None
    again = f"; {VARIABLE}=now tries again, {path} has the verdict" if path else ""
    return f"{_told(verdict)}{again}"


def _told(verdict: Verdict) -> str:
    if verdict.outcome != "proven":
        return f"its trial {verdict.said}"
    if verdict.ratio > 1.0:
        return f"proven, {verdict.ratio:.2f} times as fast as PyTorch's own path"
    if verdict.ratio > 0.0:
        return f"proven, but takes {1 / verdict.ratio:.2f} times as long as PyTorch's own path"
    return "proven, but was not timed"


def _tried(op: str, name: str, device: torch.device) -> Verdict | str:
    """A trial in a child process; or why none can be made, which may be otherwise tomorrow."""
    limit, start = LIMITS.get(name, LIMITS["native"]), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fastgan-trial-") as folder:
        answer = Path(folder) / "answer.json"
        task = {"op": op, "name": name, "device": str(device), "answer": str(answer)}
        try:
            code, said = _run(json.dumps(task), limit)
        except OSError as error:
            return f"no process can be started: {error}"
        seconds = round(time.monotonic() - start, 2)
        if code is None:
            return Verdict("hung", f"did not end within {limit:.0f} s and was killed", 0.0, seconds)
        try:
            found = json.loads(answer.read_text())
        except (OSError, ValueError):
            found = None
    if found is None:
        if code < 0:
            ended = f"was ended by {_signal_name(-code)}"
        elif any(words in said for words in ("out of memory", "busy or unavailable")):
            return said.strip().splitlines()[-1][:200]
        else:
            ended = (
                f"ended with {code}: {(said.strip().splitlines() or ['nothing said'])[-1][:200]}"
            )
        return Verdict("crashed", ended, 0.0, seconds)
    if "untried" in found:
        return str(found["untried"])
    if found["problems"]:
        return Verdict("wrong", f"found {found['problems'][0]}", 0.0, seconds)
    return Verdict("proven", "", float(found["ratio"]), seconds)


def _run(task: str, limit: float) -> tuple[int | None, str]:
    """Exit code of the child, None where it had to be killed, and what it said at last."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Forced implementations and further trials are none of the child's business.
        env={**os.environ, VARIABLE: "off", "FASTGAN_IMPL": "auto"},
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        _, said = child.communicate(task, timeout=limit)
        return child.returncode, said
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        # Also where this process is interrupted. A kernel that never ends can hold a killed
        # process in the driver, so nobody waits for it for long.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
