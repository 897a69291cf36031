"""Libraries of single formats, asked for when a file of theirs is met."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fastgan.errors import BadFile

__all__ = ["library", "quiet", "said"]


def library(module: str, extra: str, path: Path | str) -> ModuleType:
    """The module, imported.

    Args:
        module: its name.
        extra: of fastgan, that installs it.
        path: the file that needs it, for the message.

    Raises:
        BadFile: it is not installed; says how.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise BadFile(f"{path}: needs {module}: pip install 'fastgan[{extra}]'") from None


def said(error: Exception) -> str:
    """A library's words on what went wrong, in one line of bounded length."""
    return " ".join(str(error).split())[:160] or type(error).__name__


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep from the user what a library remarks on what it does all the same.

    Args:
        name: of the library's logger.
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
