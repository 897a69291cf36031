"""Tables of one row a volume or person, as spreadsheets write them, and their columns' types."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fastgan.data.stream import open_regular
from fastgan.errors import BadFile

__all__ = [
    "MISSING",
    "Cell",
    "Kind",
    "Table",
    "describe_columns",
    "inert",
    "read_table",
    "shown",
    "typed",
]

Kind = Literal["number", "category", "text"]
MISSING = ("", "nan", "na", "n/a", "none", "null", "?", "-")
"""What stands, in lower case, where a value is not known."""
FORMULAS = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula, which can start programs."""
LONGEST = 256 << 20
MOST_LEVELS = 20  # of a category; more is text
DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Cell(NamedTuple):
    """One value of a further column; None where it is missing."""

    kind: Kind
    value: float | str | None


@dataclass(frozen=True)
class Table:
    """A header and its rows, of equal length, stripped of surrounding blanks.

    Attributes:
        columns: names as they were written.
        rows: values.
        lines: where each row stands in the file, from 1.
        comma: whether numbers may have a decimal comma.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    comma: bool


def read_table(path: Path) -> Table:
    """A table delimited by comma, semicolon or tab, as its first line shows.

    Byte order marks, a first line `sep=;`, empty rows, and nameless columns without values are
    what spreadsheets leave behind; they are passed over.

    Raises:
        BadFile: not text in UTF-8 (or UTF-16 with its mark), no header, a row too long or short, a
            column without a name.
    """
    try:
        with open_regular(path) as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise BadFile(f"{path}: longer than {LONGEST} bytes, so no table of volumes")
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
        first, _, rest = text.partition("\n")
        given = re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE)
        body, skipped = (rest, 1) if given else (text, 0)
        delimiter = given[1] if given else _delimiter(body)
        reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
        found = [([shown(v.strip()) for v in row], reader.line_num + skipped) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: not CSV in UTF-8: {error}; save it as CSV UTF-8") from None
    found = [(row, line) for row, line in found if any(row)]
    if not found:
        raise BadFile(f"{path}: no header line")
    columns, rows = found[0][0], found[1:]
    for row, line in rows:
        if len(row) != len(columns):
            raise BadFile(f"{path}: line {line}: {len(row)} values for {len(columns)} columns")
    kept = [i for i, name in enumerate(columns) if name or any(row[i] for row, _ in rows)]
    if any(not columns[i] for i in kept):
        raise BadFile(f"{path}: a column with values has no name in the header line")
    return Table(
        tuple(columns[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row, _ in rows),
        tuple(line for _, line in rows),
        delimiter != ",",
    )


def inert(text: str) -> str:
    """A cell as it is written: what a spreadsheet would run as a formula begins with an apostrophe.

    >>> inert("=cmd|'/c calc'!A0"), shown(inert("-5"))
    ("'=cmd|'/c calc'!A0", '-5')
    """
    return f"'{text}" if text.startswith((*FORMULAS, "'")) else text


def shown(text: str) -> str:
    """A cell as it is meant, `inert` undone."""
    return text[1:] if text.startswith("'") and text[1:2] in (*FORMULAS, "'") else text


def typed(values: Sequence[str], comma: bool = False) -> list[Cell]:
    """The values of one column by what all of them are: numbers, categories or text.

    A category has at most 20 values, of which one repeats; dates are text.

    Args:
        values: as written; those of MISSING become None.
        comma: whether "1,5" is a number.
    """
    known = [value for value in values if value.lower() not in MISSING]
    numbers = [_number(value, comma) for value in known]
    kind: Kind
    if known and None not in numbers:
        kind = "number"
    else:
        levels = Counter(known)
        repeats = len(levels) < max(len(known), 2) and len(levels) <= MOST_LEVELS
        dates = all(DATE.match(value) for value in known)
        kind = "category" if repeats and not (known and dates) else "text"
    cells = []
    for value in values:
        missing = value.lower() in MISSING
        read = None if missing else _number(value, comma) if kind == "number" else value
        cells.append(Cell(kind, read))
    return cells


def describe_columns(rows: Iterable[Mapping[str, Cell]]) -> dict[str, dict[str, object]]:
    """What a record may say of further columns: no text, which may name a person.

    Returns:
        JSON-able, by column: kind and missing; of numbers low, median and high; of categories
        counts; of text how many distinct values there are.
    """
    columns: dict[str, list[Cell]] = {}
    total = 0
    for row in rows:
        total += 1
        for name, cell in row.items():
            columns.setdefault(name, []).append(cell)
    described: dict[str, dict[str, object]] = {}
    for name, cells in columns.items():
        values = [cell.value for cell in cells if cell.value is not None]
        about: dict[str, object] = {"kind": cells[0].kind, "missing": total - len(values)}
        numbers = [value for value in values if isinstance(value, float)]
        if cells[0].kind == "number" and numbers:
            middle = float(np.median(numbers))
            about |= {"low": min(numbers), "median": middle, "high": max(numbers)}
        elif cells[0].kind == "category":
            about["counts"] = dict(sorted(Counter(str(value) for value in values).items()))
        else:
            about["distinct"] = len(set(values))
        described[name] = about
    return described


def _delimiter(text: str) -> str:
    header = re.sub(r'"[^"]*"', "", text.lstrip("\r\n").partition("\n")[0])
    return max(",;\t", key=lambda mark: (header.count(mark), mark == ","))


def _number(value: str, comma: bool) -> float | None:
    try:
        number = float(value.replace(",", ".") if comma else value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
