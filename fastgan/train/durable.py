"""Files that survive a crash: written aside, flushed to the disk, renamed into place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fastgan.errors import BadFile, FastganError, ResourceLimit

__all__ = ["replace_file", "sync_folder", "write_error", "write_file"]

# What a user cures by freeing something rather than by changing a path or a permission.
_EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def write_file(path: Path, content: bytes) -> None:
    """Create `path` with `content` and return when the disk has it.

    Raises:
        OSError: anything the file system refuses, an existing file included.
    """
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder (creations, renames, removals) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never a part.

    Raises:
        ResourceLimit: disk, quota, memory or file handles are used up.
        BadFile: the file system refuses for another reason.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        write_file(temporary, content)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> FastganError:
    """The typed error for a failed write to `path`."""
    kind = ResourceLimit if error.errno in _EXHAUSTED else BadFile
    return kind(f"{path}: cannot write: {error.strerror or error}")
