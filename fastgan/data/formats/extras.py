"""Libraries of single formats, asked for when a file of theirs is met."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from fastgan.errors import BadFile

__all__ = ["library", "said"]


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
