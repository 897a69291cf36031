from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from fastgan.errors import BadFile, CorruptFile
from fastgan.pictures.lettering import captioned
from fastgan.pictures.sheets import LEAST_HEIGHT, read_sheet, write_sheet
from fastgan.pictures.slices import encode_png, enlarge, read_png, triptychs, write_png


def volumes(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 1, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(32, 32, 32), (4, 6, 8), (40, 20, 30), (150, 140, 160)])
@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 2), (6, 3)])
def test_a_sheet_reads_back_tile_by_tile(tmp_path, shape, count, columns):
    path, shown = tmp_path / "s.png", volumes(count, shape)
    titles = ["a", "b", "c"][:columns]
    write_sheet(path, shown, columns, caption="Schädel <1>", titles=titles, lines=("x", "y"))
    sheet = read_sheet(path)
    assert (sheet.columns, sheet.caption, sheet.lines) == (columns, "Schädel <1>", ("x", "y"))
    assert sheet.titles == tuple(titles) and len(sheet.tiles) == count
    for tile, volume in zip(sheet.tiles, shown, strict=True):
        assert np.array_equal(tile, triptychs(volume[None], 1)[:-2, :-2])


def test_slices_are_large_enough_to_see(tmp_path):
    for size in (4, 32, 48, 100, 128, 200):
        path = tmp_path / "s.png"
        write_sheet(path, volumes(2, (size, size, size)), 2, caption="c")
        picture, texts = read_png(path)
        factor = -(-LEAST_HEIGHT // size)
        assert size * factor >= LEAST_HEIGHT and size * (factor - 1) < LEAST_HEIGHT
        # Tiles, and below them a caption of one line.
        assert picture.shape[0] == (size + 2) * factor + 28
        assert picture.shape[1] == max(2 * (3 * size + 3 + 2) * factor, 296)
        assert texts["Description"] == "c"


def test_the_caption_is_drawn_below(tmp_path):
    picture = np.full((30, 400), 200, np.uint8)
    with_text = captioned(picture, "AI")
    assert np.array_equal(with_text[:30], picture)
    dots = with_text[30 + 6 :: 2, 4:28:2] > 0
    found = ["".join("#" if dot else " " for dot in row) for row in dots[1:8]]
    assert found == [
        " ###   ###  ",
        "#   #   #   ",
        "#   #   #   ",
        "#   #   #   ",
        "#####   #   ",
        "#   #   #   ",
        "#   #  ###  ",
    ]
    assert with_text.shape == (30 + 28, 400)


def test_long_captions_are_wrapped_and_never_widen_the_picture():
    picture = np.zeros((10, 400), np.uint8)
    assert captioned(picture, "word " * 40).shape[1] == 400
    assert captioned(picture, "x" * 500).shape[1] == 400
    narrow = captioned(np.zeros((10, 8), np.uint8), "x" * 500)
    assert narrow.shape[1] == 24 * 12 + 8
    assert np.array_equal(captioned(picture, "ä"), captioned(picture, "?"))
    assert np.array_equal(captioned(picture, " "), picture)


def test_enlarging_takes_the_least_whole_factor():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    large, factor = enlarge(picture, 2, 5)
    assert factor == 3 and large.shape == (6, 9) and np.array_equal(large[::3, ::3], picture)
    assert enlarge(picture, 2, 2)[1] == 1 and enlarge(picture, 200, 5)[1] == 1


def test_another_grey_picture_is_one_tile(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 13), dtype=np.uint8)
    write_png(tmp_path / "a.png", picture)
    sheet = read_sheet(tmp_path / "a.png")
    assert np.array_equal(sheet.tiles, picture[None]) and sheet.caption == ""


def test_what_is_no_picture_of_ours_is_refused(tmp_path):
    path = tmp_path / "a.png"
    whole = encode_png(np.zeros((8, 8), np.uint8), {"Layout": "{}"})
    for content, error, words in [
        (b"GIF89a", BadFile, "not a PNG"),
        (whole[:-20], CorruptFile, "cut or altered"),
        (whole.replace(b"Layout", b"layout"), CorruptFile, "cut or altered"),
        (whole, CorruptFile, "layout does not fit"),
        (_png(8, 8, colour=2), BadFile, "not an 8-bit greyscale"),
        (_png(8, 8, filtered=1), BadFile, "filtered"),
        (_png(8, 9), CorruptFile, "cut or altered"),
        (_png(2**31 - 1, 2**31 - 1), BadFile, "larger than any picture"),
    ]:
        path.write_bytes(content)
        with pytest.raises(error, match=words):
            read_sheet(path)
    with pytest.raises(BadFile, match="cannot read"):
        read_png(tmp_path / "none.png")
    for layout in ('{"tiles": 9, "columns": 2, "factor": 1, "tile": [4, 4]}', '{"tiles": 1}', "[]"):
        write_png(path, np.zeros((8, 8), np.uint8), {"Layout": layout})
        with pytest.raises(CorruptFile, match="layout"):
            read_sheet(path)


def _png(width: int, height: int, colour: int = 0, filtered: int = 0) -> bytes:
    """A PNG of 8 x 8 grey values whose header says what is given."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    data = zlib.compress((bytes([filtered]) + bytes(8)) * 8)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
