"""What trials on this machine's GPUs have found: files in the user's cache directory.

A verdict holds for what it was made with: sources, device, driver, compiler and PyTorch; all of
that is its key, so that another version, another GPU or a slice of one is tried by itself.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastgan.durable import replace_file
from fastgan.errors import FastganError
from fastgan.guarded import open_plain, read_plain
from fastgan.ops.implementations import extension

__all__ = ["OUTCOMES", "Verdict", "find", "folders", "identity", "keep", "turn"]

OUTCOMES = ("proven", "wrong", "crashed", "hung")
FORMAT = 1
_MOST = 1 << 20
_POLL = 0.1


class Verdict(NamedTuple):
    """What a trial found."""

    outcome: str  # of OUTCOMES
    said: str  # what was wrong; "" where nothing is
    ratio: float  # PyTorch's time over the kernels'; 0 where there is none
    seconds: float  # that the trial took


def identity(op: str, name: str, device: torch.device, sources: str | None) -> dict[str, Any]:
    """All that a verdict depends on.

    Args:
        op: name of an operator.
        name: of its implementations.
        device: a GPU.
        sources: digest of the kernels' sources.
    """
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "format": FORMAT,
        "op": op,
        "implementation": name,
        "sources": sources,
        "operators": _operators(),
        "architecture": f"sm_{major}{minor}",
        "device": torch.cuda.get_device_name(device),
        "driver": driver(),
        "compiler": _compiler(name),
        "torch": torch.__version__,
    }


def find(key: dict[str, Any], since: float = 0.0) -> tuple[Verdict, Path] | None:
    """The verdict of a key and its file; None without one that is whole and not older than `since`.

    Args:
        key: an `identity`.
        since: seconds since the epoch.
    """
    for folder in folders():
        path = folder / _name(key)
        try:
            if since and path.stat().st_mtime < since:
                continue
            found = json.loads(read_plain(path, _MOST))
            verdict = Verdict(**found["verdict"])
            float(verdict.ratio), float(verdict.seconds), str(verdict.said)
        except (OSError, FastganError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if found.get("key") == key and verdict.outcome in OUTCOMES:
            return verdict, path
    return None


def keep(key: dict[str, Any], verdict: Verdict) -> Path | None:
    """Write a verdict to the first folder that takes it; None where none does."""
    content = json.dumps({"key": key, "verdict": verdict._asdict()}, indent=1).encode() + b"\n"
    for folder in folders():
        if _usable(folder):
            try:
                replace_file(folder / _name(key), content)
                return folder / _name(key)
            except FastganError:
                continue
    return None


@contextmanager
def turn(key: dict[str, Any], patience: float) -> Iterator[bool]:
    """Hold the lock of a key, so that of several processes one makes the trial.

    Gives whether this process has it; False where another one kept it for `patience` seconds. Where
    no folder takes a lock, or its file system has none, nobody is kept out.
    """
    handle = _lock_file(key)
    if handle is None:
        yield True
        return
    with handle:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except OSError as error:
                # Anything else: no locks here.
                held = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
            if held or time.monotonic() > end:
                break
            time.sleep(_POLL)
        yield held


def folders() -> list[Path]:
    """Where verdicts are looked for, best first: the user's cache, and where that is read-only,
    a folder of this user's own among the temporary ones.
    """
    found = []
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(cache_home) if os.path.isabs(cache_home) else Path.home() / ".cache"
        found.append(home / "fastgan" / "trials")
    except RuntimeError:
        pass  # nobody's process: no home
    instead = Path(tempfile.gettempdir()) / f"fastgan-{os.getuid()}" / "trials"
    # What anybody could have put there proves nothing.
    if _own(instead.parent):
        found.append(instead)
    return found


def _own(folder: Path) -> bool:
    """Whether a folder is not there yet, or is this user's alone."""
    try:
        facts = folder.lstat()
    except OSError:
        return True
    private = not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and private


def _usable(folder: Path) -> bool:
    try:
        for part in (folder.parent, folder):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK) and _own(folder)


def _lock_file(key: dict[str, Any]) -> Any:
    for folder in folders():
        if _usable(folder):
            try:
                return open_plain(folder / f"{_name(key)}.lock", "ab")
            except FastganError:
                continue
    return None


def _name(key: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return f"{key['op']}-{key['implementation']}-{digest[:24]}.json"


@cache
def driver() -> str:
    """Version of the GPU driver, without starting a CUDA context."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        pass
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


@cache
def _operators() -> str:
    """SHA-256 of the Python that launches kernels and tries them."""
    total = hashlib.sha256()
    folder = Path(__file__).resolve().parents[1]
    for file in sorted(folder.rglob("*.py")):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


@cache
def _compiler(name: str) -> str:
    """What made, or will make, the machine code."""
    if name == "native":
        built = extension.build_info() if extension.reason() is None else {}
        return f"nvcc {built.get('cuda')} for {';'.join(built.get('cuda_archs', ()))}"
    import importlib.metadata

    try:
        return f"Triton {importlib.metadata.version('triton')}"
    except importlib.metadata.PackageNotFoundError:
        return "Triton of unknown version"
