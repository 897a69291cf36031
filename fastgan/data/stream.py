"""Bytes of untrusted files: only regular files, bounded in size, gzip verified to its end."""

from __future__ import annotations

import errno
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastgan.errors import BadFile, CorruptFile, ResourceLimit
from fastgan.guarded import open_plain

__all__ = [
    "GzipReader",
    "PlainReader",
    "Reader",
    "open_regular",
    "opened",
    "require_ratio",
]

CHUNK = 1 << 20
PIECE = 16 << 10
"""Packed bytes unpacked at once: what follows a member is copied, of a file of many for each."""
UNPACKED_FREELY = 64 << 20
MOST_RATIO = 500
"""Of unpacked to packed bytes. Images pack to a half; sparse masks, the most, to a hundredth."""
GZIP_MAGIC = b"\x1f\x8b"
ATTEMPTS = 3  # a network share may fail once; a broken disk fails again


def open_regular(path: Path) -> BinaryIO:
    """Open for reading a file that is a regular file itself and holds something.

    Raises:
        UnsafeFile: a symbolic link, FIFO, socket or device, which may block or point elsewhere.
        ResourceLimit: no file handles left, or a giant that is nothing but holes.
        BadFile: missing, a directory, empty, or not readable.
    """
    file = open_plain(path)
    if os.fstat(file.fileno()).st_size == 0:
        file.close()
        raise BadFile(f"{path}: empty file")
    return file


def require_ratio(where: str, packed: int, unpacked: int) -> None:
    """The one rule for decompression bombs, whatever the format.

    Raises:
        ResourceLimit: more than 64 MiB, and more than 500 times what was packed.
    """
    if unpacked > max(UNPACKED_FREELY, MOST_RATIO * packed):
        raise ResourceLimit(
            f"{where}: {packed} bytes unpack to more than {MOST_RATIO} times as many; if it is "
            "no decompression bomb, unpack it first"
        )


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
        self._unpacked = 0

    def _some(self, count: int) -> bytes:
        while not self._ended:
            if self._inflate.eof:
                rest = self._inflate.unused_data or super()._some(PIECE)
                if not rest:
                    self._ended = True
                    break
                if rest[0] != GZIP_MAGIC[0] or rest[1:2] not in (b"", GZIP_MAGIC[1:]):
                    raise CorruptFile(f"{self.path}: gzip: bytes after the last member")
                self._inflate, self._pending = zlib.decompressobj(wbits=31), rest
            packed = self._pending or super()._some(PIECE)
            if not packed:
                raise CorruptFile(f"{self.path}: gzip: cut before the end of its trailer")
            try:
                part = self._inflate.decompress(packed, count)
            except zlib.error as error:
                raise CorruptFile(f"{self.path}: gzip: {error}") from None
            self._pending = self._inflate.unconsumed_tail
            if part:
                self._unpacked += len(part)
                require_ratio(f"{self.path}: gzip", self.file_size, self._unpacked)
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
