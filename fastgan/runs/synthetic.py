"""What everything that writes synthetic volumes does alike: where to, from what, said how."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fastgan
from fastgan.data.columns import inert
from fastgan.data.manifest import COLUMNS
from fastgan.errors import BadFile
from fastgan.train.checkpoint import Checkpoint

__all__ = [
    "MANIFEST",
    "description",
    "make_empty",
    "manifest_of",
    "origin",
    "require_empty",
]

MANIFEST = "manifest.csv"


def require_empty(out: Path) -> None:
    """Raise BadFile unless `out` is absent or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadFile(f"{out}: is not an empty folder, and nothing is overwritten")


def make_empty(out: Path) -> None:
    """Make the folder, unless it is there and empty.

    Raises:
        BadFile: it holds something, is no folder, or cannot be made.
    """
    require_empty(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile(f"{out}: cannot make the folder: {error.strerror or error}") from error


def description(found: Checkpoint) -> str:
    """What the header of a synthetic volume says."""
    return f"synthetic fastgan {found.hash[:12]}"


def origin(found: Checkpoint) -> dict[str, Any]:
    """What the provenance of every synthetic volume begins with."""
    return {
        "synthetic": True,
        "software": f"fastgan {fastgan.__version__}",
        "checkpoint": found.hash,
        "step": found.step,
    }


def manifest_of(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The content of manifest.csv, which `train` reads.

    Args:
        rows: values by column; missing ones are left empty. Paths are from the set's folder.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    # A class may be called anything; in a spreadsheet it must not be run.
    writer.writerows({key: inert(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()
