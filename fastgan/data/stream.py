"""Bytes of untrusted files: only regular files, bounded in size, gzip verified to its end."""

from __future__ import annotations

import errno
import os
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import BadFile, CorruptFile, ResourceLimit, UnsafeFile

__all__ = ["GzipReader", "PlainReader", "Reader", "open_regular", "opened"]

CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
ATTEMPTS = 3  # a network share may fail once; a broken disk fails again


def open_regular(path: Path) -> BinaryIO:
    """Open for reading a file that is a regular file itself.

    Raises:
        UnsafeFile: a symbolic link, FIFO, socket or device, which may block or point elsewhere.
        BadFile: missing, a directory, empty, or not readable.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer before its type can be looked at.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BadFile(f"{path}: no such file") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafeFile(f"{path}: a symbolic link; name the file itself") from None
        if error.errno == errno.ENXIO:
            raise UnsafeFile(f"{path}: a socket, FIFO or device") from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise ResourceLimit(f"{path}: no file handles left") from None
        raise BadFile(f"{path}: cannot open: {error.strerror}") from error
    facts = os.fstat(handle)
    try:
        if stat.S_ISDIR(facts.st_mode):
            raise BadFile(f"{path}: a folder where a file is meant")
        if not stat.S_ISREG(facts.st_mode):
            raise UnsafeFile(f"{path}: a FIFO, socket or device, not a regular file")
        if facts.st_size == 0:
            raise BadFile(f"{path}: empty file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


class PlainReader:
    """Reads an uncompressed file.

    Attributes:
        path: for messages.
        file_size: bytes on disk.
        compressed: whether the content is unpacked on the way.
    """

    compressed = False

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.file_size = os.fstat(file.fileno()).st_size

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, fewer only at the end of the content."""
        parts, left = [], count
        while left > 0:
            part = self._some(min(left, CHUNK))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Read past `count` bytes, fewer only at the end of the content; none are kept."""
        while count > 0:
            part = self._some(min(count, CHUNK))
            if not part:
                break
            count -= len(part)

    def finish(self) -> None:
        """Check that the content ends here."""
        if self._some(1):
            raise CorruptFile(f"{self.path}: data: bytes follow where the header says it ends")

    def _some(self, count: int) -> bytes:
        for attempt in range(ATTEMPTS):
            position = self.file.tell()
            try:
                return self.file.read(count)
            except OSError as error:
                if error.errno != errno.EIO or attempt == ATTEMPTS - 1:
                    raise BadFile(f"{self.path}: cannot read: {error.strerror}") from error
                time.sleep(0.05)
                self.file.seek(position)
        raise AssertionError("unreachable")


class GzipReader(PlainReader):
    """Unpacks gzip; several members are read as one content, each with its CRC and size checked.

    `finish` drains to the end of the file, so that a cut trailer, a wrong CRC or bytes after the
    last member never pass.
    """

    compressed = True

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self._inflate = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._ended = False

    def _some(self, count: int) -> bytes:
        while not self._ended:
            if self._inflate.eof:
                rest = self._inflate.unused_data or super()._some(CHUNK)
                if not rest:
                    self._ended = True
                    break
                if rest[0] != GZIP_MAGIC[0] or rest[1:2] not in (b"", GZIP_MAGIC[1:]):
                    raise CorruptFile(f"{self.path}: gzip: bytes after the last member")
                self._inflate, self._pending = zlib.decompressobj(wbits=31), rest
            packed = self._pending or super()._some(CHUNK)
            if not packed:
                raise CorruptFile(f"{self.path}: gzip: cut before the end of its trailer")
            try:
                part = self._inflate.decompress(packed, count)
            except zlib.error as error:
                raise CorruptFile(f"{self.path}: gzip: {error}") from None
            self._pending = self._inflate.unconsumed_tail
            if part:
                return part
        return b""


Reader = PlainReader


@contextmanager
def opened(path: Path, packed: bool | None = None) -> Iterator[Reader]:
    """A reader of a file's content, gzip unpacked; the file must not change meanwhile.

    Args:
        path: a regular file.
        packed: whether it has to be gzip; None: where its name ends in .gz.

    Raises:
        BadFile: as `open_regular`, or the name's .gz and the content disagree.
        CorruptFile: the file was changed while it was read.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        found = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if found != (path.name.lower().endswith(".gz") if packed is None else packed):
            wrong = f"named {path.suffix} but is no gzip"
            kind = "gzip data without .gz in its name" if found else wrong
            raise BadFile(f"{path}: {kind}; rename it")
        yield (GzipReader if found else PlainReader)(path, file)
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise CorruptFile(f"{path}: changed while it was read")
