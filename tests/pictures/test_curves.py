from __future__ import annotations

import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from fastgan.pictures.curves import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    STYLE,
    TOP,
    WIDTH,
    Curve,
    Level,
    Marker,
    draw_curves,
    format_tick,
    ticks,
)

FRAME = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)


def curve(values, steps=None, name="loss") -> Curve:
    values = np.asarray(values, float)
    return Curve(name, np.arange(len(values), dtype=float) if steps is None else steps, values)


def draw(*curves: Curve, **more) -> xml.Element:
    return xml.fromstring(draw_curves(curves, title="t", **more))


def named(svg: xml.Element, kind: str, of_class: str = "") -> list[xml.Element]:
    found = svg.iter(f"{{http://www.w3.org/2000/svg}}{kind}")
    return [e for e in found if of_class in e.get("class", "").split() or not of_class]


def points(element: xml.Element) -> np.ndarray:
    return np.array([[float(x) for x in pair.split(",")] for pair in element.get("points").split()])


def labels(svg: xml.Element) -> list[str]:
    return [text.text or "" for text in named(svg, "text")]


def test_a_straight_line_is_drawn_straight_over_the_whole_frame():
    svg = draw(curve(np.linspace(0.0, 50.0, 11)))
    (line,) = named(svg, "polyline")
    at = points(line)
    assert at[0, 0] == FRAME[0] and at[-1, 0] == FRAME[1]
    np.testing.assert_allclose(
        np.diff(at, axis=0), np.diff(at, axis=0)[:1].repeat(10, 0), atol=0.11
    )
    # 5 % of room above and below.
    inner = (FRAME[3] - FRAME[2]) / 1.1
    assert at[0, 1] - at[-1, 1] == pytest.approx(inner, abs=0.2)
    assert {"0", "20", "40", "10", "step"} <= set(labels(svg))


def test_ticks_lie_where_their_values_are():
    svg = draw(curve([0.0, 100.0]), span=(0.0, 100.0))
    at = {
        t.text: float(t.get("y")) - 4 for t in named(svg, "text") if t.get("text-anchor") == "end"
    }
    assert at["0"] == pytest.approx(FRAME[3], abs=0.1) and at["100"] == pytest.approx(TOP, abs=0.1)
    assert at["40"] == pytest.approx(FRAME[3] - 0.4 * (FRAME[3] - FRAME[2]), abs=0.1)


def test_gaps_for_what_is_not_finite_and_dots_for_what_stands_alone():
    values = [1.0, 2.0, np.nan, 3.0, np.inf, 1.0, 2.0]
    svg = draw(curve(values))
    assert [len(points(line)) for line in named(svg, "polyline")] == [2, 2]
    (dot,) = named(svg, "circle")
    assert float(dot.get("cx")) == pytest.approx((FRAME[0] + FRAME[1]) / 2, abs=0.1)
    assert named(draw(curve([np.nan, np.nan])), "polyline") == []
    assert "no values yet" in labels(draw(curve([np.nan]))) + labels(draw(curve([])))


def test_a_single_row_and_a_constant_are_inside_the_frame():
    (dot,) = named(draw(curve([5.0], np.array([3.0]))), "circle")
    assert FRAME[0] < float(dot.get("cx")) < FRAME[1] and TOP < float(dot.get("cy")) < FRAME[3]
    for value in (0.0, 7.0, -1e9, 1e-30):
        (line,) = named(draw(curve([value] * 5)), "polyline")
        assert points(line)[:, 1].min() > TOP and points(line)[:, 1].max() < FRAME[3]


def test_positive_values_over_decades_are_logarithmic():
    svg = draw(curve([1e-3, 1e-1, 1e1, 1e3]))
    steps = np.diff(points(named(svg, "polyline")[0])[:, 1])
    np.testing.assert_allclose(steps, steps[0], atol=0.2)
    assert any("logarithmic" in text for text in labels(svg))
    assert not any("logarithmic" in text for text in labels(draw(curve([1.0, 50.0]))))


def test_a_peak_of_either_sign_does_not_flatten_the_rest():
    values = np.sin(np.arange(60.0))
    values[30] = -1e6
    svg = draw(curve(values))
    down = np.delete(points(named(svg, "polyline")[0])[:, 1], 30)
    assert np.ptp(down) > 0.05 * (FRAME[3] - FRAME[2])
    assert {"0", "-100k"} <= set(labels(svg)) and any("logarithmic" in text for text in labels(svg))


def test_long_runs_stay_small_and_lose_no_peak():
    values = np.random.default_rng(0).normal(size=100_000)
    values[77_777] = 40.0
    text = draw_curves([curve(values)], title="t")
    assert len(text) < 20_000
    svg = xml.fromstring(text)
    (band,) = named(svg, "polygon")
    top = points(band)[points(band)[:, 1].argmin()]
    assert top[1] == pytest.approx(TOP + (FRAME[3] - TOP) * 0.05 / 1.1, abs=1.0)
    assert top[0] == pytest.approx(FRAME[0] + 0.77777 * (FRAME[1] - FRAME[0]), abs=2.0)
    (line,) = named(svg, "polyline")
    assert len(points(line)) == 300 and points(line)[[0, -1], 0].tolist() == [*FRAME[:2]]


def test_levels_and_markers():
    level, far = Level(1.0, "wanted"), Level(1e6, "far away")
    marks = [Marker(5.0, "alarm <1>"), Marker(6.0, "resumed", alarm=False), Marker(50.0, "outside")]
    svg = draw(curve(np.linspace(0.5, 2.0, 11)), levels=[level, far], markers=marks)
    assert len(named(svg, "line", "level")) == 1 and "wanted" in labels(svg)
    (mark,), (seam,) = named(svg, "line", "mark"), named(svg, "line", "seam")
    assert float(mark.get("x1")) == pytest.approx((FRAME[0] + FRAME[1]) / 2, abs=0.1)
    assert float(seam.get("x1")) > float(mark.get("x1"))
    assert [t.text for t in named(svg, "title")][:2] == ["alarm <1>", "resumed"]


def test_everything_is_inside_the_picture():
    rng = np.random.default_rng(1)
    for scale in (1e-12, 1.0, 1e12):
        curves = [curve(rng.normal(size=50) * scale), curve(rng.lognormal(5, 5, 50) * scale)]
        svg = draw(*curves, levels=[Level(scale, "l")], span=(0.0, None))
        for line in named(svg, "polyline"):
            at = points(line)
            assert (at[:, 0] >= FRAME[0]).all() and (at[:, 0] <= FRAME[1]).all()
            assert (at[:, 1] >= TOP).all() and (at[:, 1] <= FRAME[3]).all()
        assert all(0 <= float(t.get("y")) <= HEIGHT for t in named(svg, "text"))
        assert len(labels(svg)) >= 3 and all(len(text) <= 8 for text in labels(svg)[:2])


def test_text_is_escaped_and_nothing_is_fetched():
    evil = '"><script>alert(1)</script>&'
    text = draw_curves(
        [curve([1.0, 2.0], name=evil)],
        title=evil,
        levels=[Level(1.5, evil)],
        markers=[Marker(0.0, evil)],
    )
    assert "<script" not in text
    svg = xml.fromstring(text)
    assert svg.get("aria-label") == evil and evil in labels(svg)
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_every_curve_has_a_colour_of_its_own_in_light_and_dark():
    svg = draw(*(curve([float(i), i + 1.0]) for i in range(COLOURS)))
    classes = [line.get("class").split()[-1] for line in named(svg, "polyline")]
    assert classes == [f"c{i}" for i in range(COLOURS)]
    light, dark = STYLE.split("prefers-color-scheme: dark")
    for text in (light, dark.split(".curves")[0]):
        colours = re.findall(r"--c\d: (#\w+);", text)
        assert len(colours) == COLOURS == len(set(colours))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.07, 0.07, [-0.05, 0.0, 0.05]),
        (0.0, 3000.0, [0.0, 1000.0, 2000.0, 3000.0]),
        (1e-9, 2e-9, [1e-9, 1.2e-9, 1.4e-9, 1.6e-9, 1.8e-9, 2e-9]),
    ],
)
def test_ticks(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected, rel=1e-9)


def test_numbers_on_axes_are_short():
    values = [-1500.0, 12_345.0, 1e6, 2.5e8, 1e12, 0.30000000000000004, 1e-7, -0.0]
    assert [format_tick(v) for v in values] == [
        "-1,500", "12.35k", "1M", "250M", "1e+12", "0.3", "1e-07", "-0",
    ]  # fmt: skip
