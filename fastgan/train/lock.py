"""One writer per run folder: an flock, and the owner's identity where flock does not reach."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastgan.errors import BadFile, StateError

__all__ = ["held", "hold"]


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Own `folder` until the end of the block, through the file `folder/lock`.

    The system drops an flock with its process, so a killed owner blocks nobody. Some network and
    container file systems grant a lock twice; there the owner written into the file (process id,
    its start time, boot id) is believed while it lives, and taken over once it is dead.

    Raises:
        StateError: another process, or another block of this one, owns the folder.
        BadFile: the lock file cannot be made or written.
    """
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BadFile(f"{path}: cannot lock: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            locked = False
        except OSError as error:
            raise BadFile(f"{path}: cannot lock: {error.strerror or error}") from error
        owner = _read_owner(descriptor)
        if not locked or _alive(owner):
            raise StateError(f"{folder}: in use by process {owner.get('pid', 'unknown')}")
        _write_owner(descriptor, identify(os.getpid()))
        try:
            yield
        finally:
            # Emptied, not unlinked: a waiting opener must meet the same file as the next one.
            _write_owner(descriptor, {})
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether a living process of this machine, this one included, owns `folder`."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        owner = _read_owner(descriptor)
    finally:
        os.close(descriptor)
    pid = owner.get("pid")
    return isinstance(pid, int) and identify(pid) == owner


def identify(pid: int) -> dict[str, Any]:
    """What tells a living process from a later one with the same id; {} if there is none."""
    try:
        # The command name may hold spaces and brackets; the fields after the last ")" do not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return {}
    return {"pid": pid, "started": int(fields[19]), "boot": boot}


def _alive(owner: dict[str, Any]) -> bool:
    # An flock that was granted speaks for this process, so its own older mark does not count.
    pid = owner.get("pid")
    return isinstance(pid, int) and pid != os.getpid() and identify(pid) == owner


def _read_owner(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _write_owner(descriptor: int, owner: dict[str, Any]) -> None:
    content = json.dumps(owner).encode() if owner else b""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
