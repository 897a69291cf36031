"""Sheets of volumes for people: enlarged triptychs with a caption, which can be read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.arrays import Bytes, Floats
from fastgan.errors import CorruptFile
from fastgan.pictures.lettering import captioned
from fastgan.pictures.slices import enlarge, read_png, triptychs, write_png

__all__ = ["LEAST_HEIGHT", "Sheet", "read_sheet", "write_sheet"]

LEAST_HEIGHT = 128
"""Pixels that the lowest slice of a written sheet has at least."""
_GAP = 2  # pixels between tiles of `triptychs`


@dataclass(frozen=True)
class Sheet:
    """A picture of volumes, taken apart.

    Attributes:
        tiles: [N, height, width] grey values, one voxel a pixel; line by line.
        columns: tiles in a line.
        caption: what is shown.
        titles: what each column shows; () where all are alike.
        lines: what each line shows; () where all are alike.
    """

    tiles: Bytes
    columns: int
    caption: str = ""
    titles: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def write_sheet(
    path: Path,
    volumes: Floats,
    columns: int,
    *,
    caption: str,
    titles: Sequence[str] = (),
    lines: Sequence[str] = (),
) -> None:
    """Write the middle slices of volumes as an enlarged PNG with its caption below.

    Args:
        path: file to write or replace.
        volumes: [N, C, D, H, W] in [-1, 1]; the first channel is shown.
        columns: volumes in a line.
        caption: what is shown.
        titles: of the columns, line by line alike.
        lines: of the lines.

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    small = triptychs(volumes, columns)
    _, _, depth, height, width = volumes.shape
    tile = [max(depth, height), 2 * width + height + 3]
    # Slices are [H, W], [D, W] and [D, H].
    large, factor = enlarge(small, min(depth, height), LEAST_HEIGHT)
    layout = {
        "tiles": len(volumes),
        "tile": tile,
        "columns": columns,
        "factor": factor,
        "titles": list(titles),
        "lines": list(lines),
    }
    texts = {"Description": caption, "Layout": json.dumps(layout)}
    write_png(path, captioned(large, caption), texts)


def read_sheet(path: Path) -> Sheet:
    """Take a sheet apart; any other grey PNG of ours comes as one tile.

    Raises:
        BadFile, CorruptFile: as `read_png`, or its layout contradicts its size.
    """
    picture, texts = read_png(path)
    if "Layout" not in texts:
        return Sheet(picture[None], 1)
    try:
        layout = json.loads(texts["Layout"])
        count, columns, factor = (int(layout[key]) for key in ("tiles", "columns", "factor"))
        height, width = (int(size) for size in layout["tile"])
        small = picture[::factor, ::factor]
        corners = [
            (i // columns * (height + _GAP), i % columns * (width + _GAP)) for i in range(count)
        ]
        tiles = np.stack([small[top : top + height, left : left + width] for top, left in corners])
        if tiles.shape[1:] != (height, width):
            raise ValueError(f"tiles of {tiles.shape[1:]}, {height, width} were written")
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CorruptFile(f"{path}: its layout does not fit its picture: {error}") from error
    names = (tuple(map(str, layout.get(key, ()))) for key in ("titles", "lines"))
    return Sheet(tiles, columns, texts.get("Description", ""), *names)
