"""Text for a terminal: counts as one says them, and nothing of a file's that can steer it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

__all__ = ["Escaping", "counted", "escaped", "escaping", "one_line", "terminal_of"]


def escaped(text: str) -> str:
    r"""Text in which nothing steers a terminal: control and direction marks as \x1b or \u202e.

    >>> escaped("a\x1b[2Jb\n")
    'a\\x1b[2Jb\n'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else repr(c)[1:-1] for c in text)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is one.

    >>> counted(1, "volume"), counted(0, "file"), counted(2, "file of a patient")
    ('1 volume', '0 files', '2 files of a patient')
    """
    head, space, rest = noun.partition(" ")
    plural = head if head.endswith("series") else f"{head}s"
    return f"{number} {noun if number == 1 else plural + space + rest}"


def one_line(text: str) -> str:
    r"""`escaped`, and without line breaks and tabs: a name cannot pass for a line of its own.

    >>> one_line("a\nintact  b")
    'a\\nintact  b'
    """
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def _steers(character: str) -> bool:
    code = ord(character)
    marks = 0x200E <= code <= 0x200F or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or marks


class Escaping:
    """A text stream through which only `escaped` text goes; all else is the stream's.

    Attributes:
        terminal: the stream itself, for a bar or table that escapes what it shows.
    """

    def __init__(self, stream: TextIO) -> None:
        self.terminal = stream

    def write(self, text: str) -> int:
        """Write `escaped(text)`."""
        self.terminal.write(escaped(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


def terminal_of(stream: TextIO) -> TextIO:
    """What is behind a stream, if it escapes: for output that is made of control codes."""
    return stream.terminal if isinstance(stream, Escaping) else stream


@contextmanager
def escaping() -> Iterator[None]:
    """Standard output and error escape until the end of the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Escaping(terminal_of(one)) for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
