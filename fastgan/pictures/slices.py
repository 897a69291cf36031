"""Pictures of volumes: the three middle slices of each, side by side, as PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fastgan.arrays import Bytes, Floats
from fastgan.durable import replace_file

__all__ = ["triptychs", "write_png"]


def triptychs(volumes: Iterable[Floats], columns: int = 4) -> Bytes:
    """Middle slices across D, H and W of the first channel, in a grid of `columns` volumes.

    Args:
        volumes: [B, C, D, H, W] or B of [C, D, H, W], values in [-1, 1]; clipped.
        columns: volumes in a line.

    Returns:
        [height, width] uint8; slices are drawn with their first axis downwards, black between.
    """
    tiles = [_triptych(np.asarray(volume)[0]) for volume in volumes]
    height, width = tiles[0].shape
    rows = -(-len(tiles) // columns)
    picture = np.zeros((rows * (height + 2), columns * (width + 2)), np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + 2), i % columns * (width + 2)
        picture[top : top + height, left : left + width] = tile
    return picture


def _triptych(volume: Floats) -> Bytes:
    slices = [_levels(np.take(volume, size // 2, axis)) for axis, size in enumerate(volume.shape)]
    height = max(piece.shape[0] for piece in slices)
    return np.hstack([np.pad(s, ((0, height - s.shape[0]), (0, 1))) for s in slices])


def _levels(values: Floats) -> Bytes:
    levels: Bytes = (
        ((np.clip(np.nan_to_num(values), -1.0, 1.0) + 1.0) * 127.5).round().astype(np.uint8)
    )
    return levels


def write_png(path: Path, picture: Bytes) -> None:
    """Write [height, width] uint8 as an 8-bit greyscale PNG.

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    height, width = picture.shape
    # Each line is preceded by its filter type, 0 for none.
    lines = np.hstack([np.zeros((height, 1), np.uint8), picture]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    replace_file(path, b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
