"""What an owner measured on every volume, such as the size of its lesion, comes in a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.arrays import Floats
from fastgan.data.columns import read_table, typed
from fastgan.data.formats.table import joined, parted
from fastgan.data.manifest import COLUMNS, Item
from fastgan.errors import AuditError, BadFile

__all__ = ["Measurements"]


@dataclass(frozen=True)
class Measurements:
    """A table with `path` and columns of numbers; a row for every volume of an audit.

    Paths are of the table's folder. A series or one volume of several is named as commands print
    it, "folder#series"; where a folder or file holds but one, its own path does.
    """

    path: Path
    names: tuple[str, ...]
    values: dict[str, tuple[float | None, ...]]
    """Real path -> one number of each column, None where it is missing."""

    @classmethod
    def read(cls, path: Path) -> Measurements:
        """The table.

        Raises:
            BadFile: as `read_table`; no column `path`, one path twice, no column of numbers.
        """
        table = read_table(path)
        lower = [name.lower() for name in table.columns]
        if "path" not in lower:
            raise BadFile(f"{path}: no column path; it says which volume a row is of")
        at = lower.index("path")
        columns = {
            name: typed([row[i] for row in table.rows], table.comma)
            for i, name in enumerate(table.columns)
            if lower[i] not in COLUMNS
        }
        numbers = {n: cells for n, cells in columns.items() if cells and cells[0].kind == "number"}
        if not numbers:
            named = ", ".join(columns) or "none"
            raise BadFile(f"{path}: no further column holds numbers alone; columns: {named}")
        values: dict[str, tuple[float | None, ...]] = {}
        for number, row in enumerate(table.rows):
            key = _key(str(path.parent / row[at]))
            if key in values:
                raise BadFile(f"{path}: line {table.lines[number]}: path: {row[at]} again")
            own = [cells[number].value for cells in numbers.values()]
            values[key] = tuple(None if v is None else float(v) for v in own)
        return cls(path, tuple(numbers), values)

    def of(self, items: Sequence[Item]) -> dict[str, Floats]:
        """Column -> [N] of these volumes.

        Raises:
            AuditError: a volume without a row, or with a value missing.
        """
        alone = Counter(_key(str(parted(item.path)[0])) for item in items)
        rows: list[tuple[float | None, ...] | None] = []
        for item in items:
            whole = _key(str(parted(item.path)[0]))
            own = self.values.get(_key(item.path))
            rows.append(self.values.get(whole) if own is None and alone[whole] == 1 else own)
        absent = [item.path for item, row in zip(items, rows, strict=True) if row is None]
        if absent:
            raise AuditError(
                f"{self.path}: no row for {absent[0]} ({len(absent)} of {len(items)} volumes have "
                "none); every volume, of patients and generated, is to be measured alike"
            )
        found = np.array(rows, dtype=np.float64)
        for name, column in zip(self.names, found.T, strict=True):
            gone = np.flatnonzero(~np.isfinite(column))
            if len(gone):
                raise AuditError(
                    f"{self.path}: {name}: no number for {items[gone[0]].path} ({len(gone)} of "
                    f"{len(items)}); a volume without a lesion has size 0"
                )
        return dict(zip(self.names, found.T, strict=True))


def _key(path: str) -> str:
    """Real path of the file or folder, and the part of it."""
    place, part = parted(path)
    real = os.path.realpath(place)
    return real if part is None else joined(real, part)
