"""Files that survive a crash: written aside, flushed to the disk, renamed into place."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fastgan.errors import BadFile, FastganError
from fastgan.guarded import system_error

__all__ = [
    "put_file",
    "replace_file",
    "sweep_partials",
    "sync_folder",
    "write_error",
    "write_file",
]

_PARTIAL = re.compile(r"\..+\.(\d+)\.partial")


def write_file(path: Path, *parts: bytes, mode: int = 0o666) -> None:
    """Create `path` with the bytes of `parts` and return when the disk has them.

    Args:
        path: of a file that is not there.
        parts: one after the other.
        mode: permissions at most, before the process's umask.

    Raises:
        OSError: anything the file system refuses, an existing file included.
    """
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder (creations, renames, removals) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_file(
    path: Path, parts: Iterable[bytes], *, overwrite: bool = False, mode: int = 0o666
) -> None:
    """Put bytes at `path` so that a reader sees what was there before or all of them.

    Args:
        path: of the file.
        parts: its content.
        overwrite: replace what is there.
        mode: permissions at most, before the process's umask.

    Raises:
        ResourceLimit: disk, quota, memory or file handles are used up.
        BadFile: the file exists and `overwrite` is false, or the file system refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if not overwrite and path.exists():
            raise FileExistsError
        partial.unlink(missing_ok=True)
        try:
            write_file(partial, *parts, mode=mode)
            if overwrite:
                os.replace(partial, path)
            else:
                _rename_new(partial, path)
            sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError:
        raise BadFile(f"{path}: exists already and is not overwritten") from None
    except OSError as error:
        raise write_error(path, error) from error


def replace_file(path: Path, content: bytes) -> None:
    """`put_file` with `content`, over whatever is there."""
    put_file(path, [content], overwrite=True)


def write_error(path: Path, error: OSError) -> FastganError:
    """The typed error for a failed write to `path`."""
    return system_error(path, "write", error)


def sweep_partials(folder: Path) -> None:
    """Remove what writers that were killed left half written in `folder`, which nobody else writes.

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    try:
        for name in os.listdir(folder):
            if (match := _PARTIAL.fullmatch(name)) and int(match[1]) != os.getpid():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(folder / name)
    except OSError as error:
        raise write_error(folder, error) from error


def _rename_new(partial: Path, path: Path) -> None:
    # A link fails where the name is taken; a rename would replace what another process wrote.
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        os.replace(partial, path)
