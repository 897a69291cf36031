"""A run's sample pictures for its page: the newest ones large, and how they came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from fastgan.arrays import Bytes
from fastgan.errors import FastganError
from fastgan.pictures.html import data_uri
from fastgan.pictures.sheets import Sheet, read_sheet
from fastgan.pictures.slices import encode_png

__all__ = ["Gallery", "Picture", "Row", "gallery", "spread"]

T = TypeVar("T")

NEWEST_PIXELS, EARLIER_PIXELS = 700_000, 500_000
"""Of all tiles together, one byte each before compression: the page stays below 3 MB."""
LATENTS = 4
STEPS = 6
CHANGE = ("source", "translation")
"""Titles of two columns whose difference is of interest."""


@dataclass(frozen=True)
class Picture:
    """One triptych: the source of an <img>, its size in pixels, and what is written below it."""

    source: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Row:
    """Triptychs that belong together, and what they are."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """What a page shows of the volumes.

    Attributes:
        step: of the newest pictures; None where there are none.
        caption: of the newest pictures.
        newest: their lines.
        earlier: the same volume at several steps, oldest first, a row for each volume.
        unread: pictures that could not be read, and why.
    """

    step: int | None
    caption: str
    newest: tuple[Row, ...]
    earlier: tuple[Row, ...]
    unread: tuple[str, ...]


def gallery(samples: Mapping[int, Path]) -> Gallery:
    """The pictures of a run.

    Args:
        samples: step -> picture, ascending.
    """
    sheets: dict[int, Sheet] = {}
    unread = []
    for step in spread([*samples], STEPS):
        try:
            sheets[step] = read_sheet(samples[step])
        except FastganError as error:
            unread.append(str(error))
    if not sheets:
        return Gallery(None, "", (), (), tuple(unread))
    last = max(sheets)
    caption = sheets[last].caption.partition(": ")[2].partition(" Lines from")[0]
    caption = caption[:1].upper() + caption[1:]
    newest = _lines(sheets[last])
    return Gallery(last, caption, newest, _over_time(sheets), tuple(unread))


def spread(values: Sequence[T], most: int) -> list[T]:
    """At most `most` of the values, evenly spread, the first and the last among them."""
    places = {round(i * (len(values) - 1) / (most - 1)) for i in range(most)} if values else set()
    return [values[i] for i in sorted(places)]


def _lines(sheet: Sheet) -> tuple[Row, ...]:
    """The newest picture, line by line; where it translates, with the change it made."""
    changes = sheet.titles[:2] == CHANGE
    count = len(sheet.tiles) + (len(sheet.tiles) // sheet.columns if changes else 0)
    side = _reduction(sheet.tiles.shape[1:], count, NEWEST_PIXELS)
    rows = []
    for line, start in enumerate(range(0, len(sheet.tiles), sheet.columns)):
        tiles = [*sheet.tiles[start : start + sheet.columns]]
        titles = list(sheet.titles) or [""] * len(tiles)
        if changes:
            tiles.insert(2, _difference(tiles[1], tiles[0]))
            titles.insert(2, "translation minus source; grey: no change")
        pictures = (_picture(t, side, title) for t, title in zip(tiles, titles, strict=False))
        rows.append(Row(_name(sheet, line), tuple(pictures)))
    return tuple(rows)


def _over_time(sheets: Mapping[int, Sheet]) -> tuple[Row, ...]:
    """The same volumes at several steps, of sheets that are laid out as the newest one is."""
    last = sheets[max(sheets)]
    alike = {
        step: sheet
        for step, sheet in sheets.items()
        if sheet.tiles.shape == last.tiles.shape and sheet.titles == last.titles
    }
    if len(alike) < 2:
        return ()
    column = 1 if last.titles[:2] == CHANGE else 0
    starts = list(range(0, len(last.tiles), last.columns))
    if len(starts) == 1 or not last.lines:
        shown = list(range(column, min(len(last.tiles), LATENTS)))
    else:
        shown = [start + column for start in starts[:LATENTS]]
    side = _reduction(last.tiles.shape[1:], len(shown) * len(alike), EARLIER_PIXELS)
    rows = []
    for tile in shown:
        pictures = (_picture(s.tiles[tile], side, f"step {step:,}") for step, s in alike.items())
        names = [_name(last, tile // last.columns), last.titles[column] if last.titles else ""]
        rows.append(Row(", ".join(filter(None, names)), tuple(pictures)))
    return tuple(rows)


def _name(sheet: Sheet, line: int) -> str:
    return sheet.lines[line] if line < len(sheet.lines) else ""


def _difference(after: Bytes, before: Bytes) -> Bytes:
    change = after.astype(np.int16) - before
    return np.asarray(128 + change // 2, np.uint8)


def _reduction(shape: tuple[int, ...], count: int, pixels: int) -> int:
    """Side of the blocks to average, so that `count` tiles of `shape` have at most `pixels`."""
    side = 1
    while count * -(-shape[0] // side) * -(-shape[1] // side) > pixels:
        side += 1
    return side


def _picture(tile: Bytes, side: int, caption: str) -> Picture:
    if side > 1:
        high, wide = (size // side * side for size in tile.shape)
        blocks = tile[:high, :wide].reshape(high // side, side, wide // side, side)
        tile = blocks.mean((1, 3)).round().astype(np.uint8)
    return Picture(data_uri(encode_png(tile)), tile.shape[1], tile.shape[0], caption)
