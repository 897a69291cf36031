"""Pictures of volumes: the three middle slices of each, side by side, as PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fastgan.arrays import Bytes, Floats
from fastgan.durable import replace_file
from fastgan.errors import BadFile, CorruptFile
from fastgan.guarded import read_plain

__all__ = ["encode_png", "enlarge", "read_png", "triptychs", "write_png"]

LARGEST = 64 << 20
"""Bytes of a picture, packed or not, that is read."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


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


def enlarge(picture: Bytes, height: int, least: int) -> tuple[Bytes, int]:
    """The picture, every pixel a block of k x k, such that `height` pixels of it become `least`.

    Args:
        picture: [height, width].
        height: what must be large enough, such as a slice's height.
        least: its least height afterwards.

    Returns:
        [k height, k width], and the smallest k >= 1 that does.
    """
    factor = max(1, -(-least // height))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1), factor


def _triptych(volume: Floats) -> Bytes:
    slices = [_levels(np.take(volume, size // 2, axis)) for axis, size in enumerate(volume.shape)]
    height = max(piece.shape[0] for piece in slices)
    return np.hstack([np.pad(s, ((0, height - s.shape[0]), (0, 1))) for s in slices])


def _levels(values: Floats) -> Bytes:
    levels: Bytes = (
        ((np.clip(np.nan_to_num(values), -1.0, 1.0) + 1.0) * 127.5).round().astype(np.uint8)
    )
    return levels


def write_png(path: Path, picture: Bytes, texts: Mapping[str, str] | None = None) -> None:
    """Write [height, width] uint8 as an 8-bit greyscale PNG.

    Args:
        path: file to write or replace.
        picture: grey values.
        texts: keyword -> text of any characters, kept in the file ("Description" is shown by
            picture viewers).

    Raises:
        ResourceLimit, BadFile: the file system refuses.
    """
    replace_file(path, encode_png(picture, texts))


def encode_png(picture: Bytes, texts: Mapping[str, str] | None = None) -> bytes:
    """The bytes that `write_png` writes."""
    height, width = picture.shape
    # Each line is preceded by its filter type, 0 for none.
    lines = np.hstack([np.zeros((height, 1), np.uint8), picture]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    notes = [
        # Uncompressed, no language: keyword, two bytes of compression, two empty names, the text.
        (b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode())
        for key, text in (texts or {}).items()
    ]
    chunks = ((b"IHDR", header), *notes, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def read_png(path: Path) -> tuple[Bytes, dict[str, str]]:
    """What `write_png` wrote: [height, width] grey values, and the texts.

    Raises:
        BadFile: it cannot be read, or is a PNG of another kind.
        CorruptFile: it is cut or altered.
    """
    content = read_plain(path, LARGEST)
    chunks = _chunks(path, content)
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[0][1].ljust(13, b"\0")[:13])
    if chunks[0][0] != b"IHDR" or kind != [8, 0, 0, 0, 0]:
        raise BadFile(f"{path}: not an 8-bit greyscale PNG")
    if height * (width + 1) > LARGEST:
        raise BadFile(f"{path}: {width} x {height} pixels, larger than any picture of a run")
    try:
        # One byte more than there must be: a small file must not fill the memory.
        unpacker, size = zlib.decompressobj(), height * (width + 1)
        data = unpacker.decompress(b"".join(d for k, d in chunks if k == b"IDAT"), size + 1)
        lines = np.frombuffer(data, np.uint8).reshape(height, width + 1)
    except (zlib.error, ValueError) as error:
        raise CorruptFile(f"{path}: the picture is cut or altered: {error}") from error
    if lines[:, 0].any():
        raise BadFile(f"{path}: a PNG with filtered lines, so not written by fastgan")
    texts = {}
    for kind_of, note in chunks:
        if kind_of == b"iTXt":
            key, _, rest = note.partition(b"\0")
            texts[key.decode("latin-1")] = rest[4:].decode(errors="replace")
    return lines[:, 1:], texts


def _chunks(path: Path, content: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk, checked; the first is IHDR in any sound file."""
    if not content.startswith(_SIGNATURE):
        raise BadFile(f"{path}: not a PNG")
    at, chunks = len(_SIGNATURE), []
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        if content[at : at + 12 + length] != _chunk(kind, body):
            break
        chunks.append((kind, body))
        at += 12 + length
    if not chunks or chunks[-1][0] != b"IEND":
        raise CorruptFile(f"{path}: a cut or altered PNG")
    return chunks


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
