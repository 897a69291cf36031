"""Tables of README and docs/, written from the committed results that they show.

In a page, a line `<!-- table NAME from FILE -->` stands above each such table. `make tables` writes
the table below it anew; a test holds that every table is what would be written, so no figure is
copied by hand. FILE is one file of JSON or of lines of it, or a pattern with `*`, below the
repository's root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.tables import audit, errors, faults, membership, memory, nearest, speed, studies, utility

__all__ = ["RENDERERS", "ROOT", "Found", "pages", "render", "tables_of", "write"]

ROOT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"<!-- table (?P<name>\w+) from (?P<file>\S+) -->")

# Name of a table -> its lines (header, rule, rows), of the parsed files.
RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    **audit.RENDERERS,
    **errors.RENDERERS,
    **faults.RENDERERS,
    **membership.RENDERERS,
    **memory.RENDERERS,
    **nearest.RENDERERS,
    **speed.RENDERERS,
    **studies.RENDERERS,
    **utility.RENDERERS,
}


@dataclass(frozen=True)
class Found:
    """One table of a page: its lines [first, last), its header, and the marker above it, if any."""

    first: int
    last: int
    header: str
    name: str | None
    file: str | None


def pages() -> list[Path]:
    """Every page whose tables are looked at."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def tables_of(lines: list[str]) -> Iterator[Found]:
    """The tables among the lines of a page, outside code."""
    position, fenced = 0, False
    while position < len(lines):
        fenced ^= lines[position].lstrip().startswith("```")
        if fenced or not lines[position].startswith("|"):
            position += 1
            continue
        last = position
        while last < len(lines) and lines[last].startswith("|"):
            last += 1
        above = [line for line in lines[max(0, position - 2) : position] if line.strip()]
        marker = MARKER.fullmatch(above[-1].strip()) if above else None
        name, file = (marker["name"], marker["file"]) if marker else (None, None)
        yield Found(position, last, lines[position], name, file)
        position = last


def render(name: str, pattern: str) -> list[str]:
    """The lines of a table, from the files it names.

    Raises:
        KeyError: no such table.
        FileNotFoundError: no such file.
    """
    files = sorted(ROOT.glob(pattern))
    if not files:
        raise FileNotFoundError(f"{pattern}: no such file, which the table {name!r} comes from")
    return RENDERERS[name]([_parsed(file) for file in files])


def _parsed(file: Path) -> Any:
    """A document, or the list of those in the lines of a .jsonl."""
    text = file.read_text(encoding="utf-8")
    return [*map(json.loads, text.splitlines())] if file.suffix == ".jsonl" else json.loads(text)


def write(page: Path) -> bool:
    """Write a page's tables anew; whether anything changed."""
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    for found in reversed(list(tables_of(lines))):
        if found.name is not None and found.file is not None:
            lines[found.first : found.last] = render(found.name, found.file)
    changed = "\n".join(lines) + "\n"
    if changed != text:
        page.write_text(changed, encoding="utf-8")
    return changed != text
