"""Files and folders that somebody else may have made: nothing that points, waits or has no end.

Everything that is opened in a run folder, a cache or a data set goes through here: a regular file
itself, never what a link points to, and no longer than its place asks for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import BadFile, FastganError, ResourceLimit, UnsafeFile
from fastgan.terminal import escaped

__all__ = [
    "append_to",
    "open_plain",
    "read_plain",
    "refuse_special",
    "system_error",
    "typed",
]

TEXT = 16 << 20
"""Bytes of a file of settings or facts that is read whole; none comes near it."""
SPARSE = 1 << 30
"""Bytes from which a file must also take room on the disk: one of holes alone has no content."""

# What a user cures by freeing something rather than by changing a path or a permission.
_EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def open_plain(
    path: Path, mode: str = "rb", *, most: int | None = None, follow: bool = False
) -> BinaryIO:
    """Open a file that is a regular file itself; what it holds is left as it is.

    Args:
        path: of the file.
        mode: "rb", "ab" (made if it is not there) or "r+b" (likewise, read and written).
        most: bytes it may have.
        follow: take what a link points to, of a path that the user typed.

    Raises:
        UnsafeFile: a symbolic link, FIFO, socket or device, which may block or point elsewhere; to
            be written, also a file that has another name.
        ResourceLimit: no file handles left, or a giant that is nothing but holes.
        BadFile: missing, a folder, longer than `most`, or not to be opened.
    """
    flags = {
        "rb": os.O_RDONLY,
        "ab": os.O_WRONLY | os.O_APPEND | os.O_CREAT,
        "r+b": os.O_RDWR | os.O_CREAT,
    }[mode]
    # O_NONBLOCK: opening a FIFO would wait for its other end before its type can be looked at.
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags, 0o644)
    except (OSError, ValueError) as error:
        raise system_error(path, "read" if mode == "rb" else "write", error) from error
    try:
        facts = os.fstat(handle)
        _require_plain(path, facts, most)
        if mode != "rb" and facts.st_nlink > 1:
            raise UnsafeFile(
                f"{path}: has another name elsewhere (a hard link), where this would be written "
                "too; make it a file of its own: copy it aside and back"
            )
        file: BinaryIO = os.fdopen(handle, mode)  # type: ignore[assignment]
        return file
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: Path, most: int = TEXT, *, follow: bool = False) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises:
        UnsafeFile, ResourceLimit, BadFile: as `open_plain`, or it cannot be read.
    """
    with open_plain(path, most=most, follow=follow) as file:
        try:
            # One byte more than it may have: it may grow while it is read.
            content = file.read(most + 1)
        except OSError as error:
            raise system_error(path, "read", error) from error
    if len(content) > most:
        raise BadFile(f"{path}: longer than {most} bytes, so not what belongs there")
    return content


def append_to(path: Path, content: bytes, *, sync: bool = False) -> None:
    """Add to the end of a file, which is made if it is not there; `sync`: and flush it to disk.

    Raises:
        UnsafeFile, ResourceLimit, BadFile: as `open_plain`, or it cannot be written.
    """
    with open_plain(path, "ab") as file:
        try:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        except OSError as error:
            raise system_error(path, "write", error) from error


def refuse_special(folder: Path) -> None:
    """Refuse a folder that holds anything but regular files and folders.

    Raises:
        UnsafeFile: a link, FIFO, socket or device; names it.
        BadFile: the folder cannot be read.
    """
    try:
        for name in sorted(os.listdir(folder)):
            try:
                mode = os.lstat(folder / name).st_mode
            except FileNotFoundError:  # its owner removed it meanwhile
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UnsafeFile(
                    f"{folder / name}: a link, pipe or device in a folder of plain files; whoever "
                    "made it may mean harm: remove it, or use another copy of the folder"
                )
    except (OSError, ValueError) as error:
        if isinstance(error, FastganError):
            raise
        raise system_error(folder, "read", error) from error


def system_error(path: object, verb: str, error: BaseException) -> FastganError:
    """The typed error for what the operating system refused of `path`; `verb` as in "read"."""
    where = escaped(str(path))
    if len(where) > 300:
        where = f"{where[:300]}..."
    if not isinstance(error, OSError):
        return BadFile(f"{where}: cannot {verb}: {error}")
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return UnsafeFile(f"{where}: a symbolic link; name the file itself")
    if error.errno == errno.ENXIO:
        return UnsafeFile(f"{where}: a socket, FIFO or device")
    if error.errno == errno.ENOENT:
        return BadFile(f"{where}: cannot {verb}: no such file")
    kind = ResourceLimit if error.errno in _EXHAUSTED else BadFile
    return kind(f"{where}: cannot {verb}: {error.strerror or error}")


@contextmanager
def typed(what: str) -> Iterator[None]:
    """Turn what the system refuses during a block, or a decorated function, into a typed error.

    Args:
        what: is being done, for errors that name no file.

    Raises:
        ResourceLimit: memory, disk or file handles are used up.
        BadFile: a name or file that the system refuses, or content nested without bound.
    """
    try:
        yield
    except (FastganError, BrokenPipeError):
        raise
    except OSError as error:
        raise system_error(error.filename or what, "work with it", error) from error
    except MemoryError as error:
        raise ResourceLimit(f"{what}: memory does not hold it: {error}") from error
    except RecursionError as error:
        raise BadFile(f"{what}: content nested too deep") from error
    except ValueError as error:
        if "null byte" not in str(error) and "null character" not in str(error):
            raise
        raise BadFile(f"{what}: a name with a zero byte") from error
    except RuntimeError as error:
        text = str(error)
        if "can't allocate memory" not in text and "Invalid buffer size" not in text:
            raise
        raise ResourceLimit(f"{what}: memory does not hold it: {text.splitlines()[0]}") from error


def _require_plain(path: Path, facts: os.stat_result, most: int | None) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise BadFile(f"{path}: a folder where a file is meant")
    if not stat.S_ISREG(facts.st_mode):
        raise UnsafeFile(f"{path}: a FIFO, socket or device, not a regular file")
    if most is not None and facts.st_size > most:
        raise BadFile(f"{path}: longer than {most} bytes, so not what belongs there")
    if facts.st_size > SPARSE and facts.st_blocks * 512 < facts.st_size // 100:
        raise ResourceLimit(f"{path}: {facts.st_size} bytes, nearly all of them holes")
