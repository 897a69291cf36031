"""One writer per run folder: an flock, and the owner's identity where flock does not reach."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastgan.errors import FastganError, StateError
from fastgan.guarded import open_plain, system_error

__all__ = ["held", "hold"]

_LONGEST = 4096
"""Bytes of a lock file, which holds three numbers."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Own `folder` until the end of the block, through the file `folder/lock`.

    The folder itself is locked too, where its file system can: whoever removes the file admits no
    second owner. The system drops an flock with its process, so a killed owner blocks nobody. Some
    network and container file systems grant a lock twice; there the owner written into the file
    (process id, its start time, boot id) is believed while it lives, and taken over once dead.

    Raises:
        StateError: another process, or another block of this one, owns the folder.
        UnsafeFile: the lock file is a link, pipe or device.
        BadFile: the lock file cannot be made or written.
    """
    path = folder / "lock"
    with ExitStack() as stack:
        descriptor = stack.enter_context(open_plain(path, "r+b", most=_LONGEST)).fileno()
        try:
            inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, inside)
            locked = _flock(descriptor) and _flock(inside, required=False)
        except OSError as error:
            raise system_error(path, "lock", error) from error
        owner = _read_owner(descriptor)
        if not locked or _alive(owner):
            raise StateError(f"{folder}: in use by process {owner.get('pid', 'unknown')}")
        try:
            _write_owner(descriptor, identify(os.getpid()))
        except OSError as error:
            raise system_error(path, "lock", error) from error
        try:
            yield
        finally:
            # Emptied, not unlinked: a waiting opener must meet the same file as the next one.
            _write_owner(descriptor, {})


def _flock(descriptor: int, *, required: bool = True) -> bool:
    """Whether the lock was granted; also where one that is not required cannot be had at all."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # NFS locks nothing that is not open for writing, which a folder never is.
        if required or error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def held(folder: Path) -> bool:
    """Whether a living process of this machine, this one included, owns `folder`."""
    try:
        with open_plain(folder / "lock", most=_LONGEST) as file:
            owner = _read_owner(file.fileno())
    except FastganError:
        return False
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
        owner = json.loads(os.pread(descriptor, _LONGEST, 0) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _write_owner(descriptor: int, owner: dict[str, Any]) -> None:
    content = json.dumps(owner).encode() if owner else b""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
