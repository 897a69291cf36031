"""Files that survive a crash: written aside, flushed to the disk, renamed into place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from fastgan.errors import BadFile, FastganError, ResourceLimit

__all__ = ["put_file", "replace_file", "sync_folder", "write_error", "write_file"]

# What a user cures by freeing something rather than by changing a path or a permission.
_EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def write_file(path: Path, *parts: bytes) -> None:
    """Create `path` with the bytes of `parts` and return when the disk has them.

    Raises:
        OSError: anything the file system refuses, an existing file included.
    """
    with open(path, "xb") as file:
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


def put_file(path: Path, parts: Iterable[bytes], *, overwrite: bool = False) -> None:
    """Put bytes at `path` so that a reader sees what was there before or all of them.

    Raises:
        ResourceLimit: disk, quota, memory or file handles are used up.
        BadFile: the file exists and `overwrite` is false, or the file system refuses.
    """
    if path.exists() and not overwrite:
        raise BadFile(f"{path}: exists already and is not overwritten")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)
        try:
            write_file(partial, *parts)
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
    kind = ResourceLimit if error.errno in _EXHAUSTED else BadFile
    return kind(f"{path}: cannot write: {error.strerror or error}")


def _rename_new(partial: Path, path: Path) -> None:
    # A link fails where the name is taken; a rename would replace what another process wrote.
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        os.replace(partial, path)
