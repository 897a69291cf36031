from __future__ import annotations

import struct
import zlib

import numpy as np

from fastgan.pictures.slices import triptychs, write_png


def _read_png(path):
    """Decode an 8-bit greyscale PNG without filters, checking every checksum."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_png_reads_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 13), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(_read_png(tmp_path / "a.png"), picture)


def test_middle_slices():
    volumes = np.full((3, 1, 4, 6, 8), -1.0)
    volumes[0, 0, 2, 1, 5] = 1.0
    volumes[2] = np.nan
    picture = triptychs(volumes, columns=2)
    # Slices of 6 x 8, 4 x 8 and 4 x 6, each followed by a black column.
    assert picture.shape == (2 * (6 + 2), 2 * (9 + 9 + 7 + 2))
    assert picture[1, 5] == 255 and (picture == 255).sum() == 1
    assert picture[8, 0] == 128
    assert (triptychs(np.full((1, 2, 3, 3, 3), 9.0))[:3, :3] == 255).all()
