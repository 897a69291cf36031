"""Lit surfaces and the page of them."""

import struct
import sys

import numpy as np
import pytest

from fastgan.errors import ConfigError
from fastgan.measures.shape import soft_ellipsoids
from fastgan.pictures.surfaces import draw_montage, shaded_surface


def balls(count: int) -> np.ndarray:
    volume = np.full(count, 2000.0)
    return soft_ellipsoids(volume, (24, 24, 24), (1.0,) * 3, aspect=np.ones((count, 3)))


def test_a_ball_is_a_disc_lit_from_the_upper_left():
    picture = shaded_surface(balls(1)[0])
    inside = np.isfinite(picture)
    radius = (2000 * 3 / (4 * np.pi)) ** (1 / 3)
    assert inside.sum() == pytest.approx(np.pi * radius**2, rel=0.1)
    rows, columns = np.nonzero(inside)
    brightest = np.nanargmax(picture)
    row, column = np.unravel_index(brightest, picture.shape)
    assert row < 11.5 and column < 11.5
    assert picture[rows.max(), 12] < picture[rows.min(), 12]
    assert picture[12, columns.max()] < picture[12, columns.min()]


def test_the_page_is_a_png_of_the_rows(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "montage.png"
    draw_montage({"a": balls(3), "b": balls(5)}, path, title="t", caption="c")
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 100


def test_rejects_a_row_without_masks(tmp_path):
    with pytest.raises(ConfigError, match="no masks"):
        draw_montage({"a": balls(0)}, tmp_path / "x.png", title="t", caption="c")
    assert not (tmp_path / "x.png").exists()


def test_says_what_to_install_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'fastgan\[report\]'"):
        draw_montage({"a": balls(1)}, tmp_path / "x.png", title="t", caption="c")
    assert not (tmp_path / "x.png").exists()
