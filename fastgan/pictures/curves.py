"""Curves over training steps as self-contained SVG: no script, no font, no file beside it.

Colours are CSS classes (`c0`, `c1`, ...), which `STYLE` defines for light and dark pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

import numpy as np

from fastgan.arrays import Floats

__all__ = ["COLOURS", "STYLE", "Curve", "Level", "Marker", "draw_curves", "format_tick", "ticks"]

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
LARGEST_POINTS = 300
"""Points along a curve; of more rows each point is a median with its range as a band."""
WIDE = 100.0
"""Largest over typical value from which a linear axis would hide what is typical."""

# Told apart by people who see red and green alike, on white and on near black; dashes as well.
_LIGHT = ("#0b62a8", "#c4500a", "#00755a", "#8a3f8f", "#7a6a00", "#a3234e", "#3d5c6e", "#5c4a9c")
_DARK = ("#6fb3ec", "#f29a5b", "#4fc7a0", "#d79be0", "#d8c454", "#f08aa8", "#a3c0d0", "#b3a5ee")
COLOURS = len(_LIGHT)
"""Colours before they repeat."""


def _colours(palette: Sequence[str]) -> str:
    return " ".join(f"--c{i}: {colour};" for i, colour in enumerate(palette))


_DASHES = ("none", "7 3", "2 2", "9 3 2 3", "none", "7 3", "2 2", "none")

STYLE = "\n".join(
    [
        f":root {{ {_colours(_LIGHT)} --mark: #b3261e; --seam: #78828a; }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_colours(_DARK)} --mark: #ff8a80;",
        "  --seam: #8b959d; } }",
        ".curves { display: block; width: 100%; height: auto; font-size: 12px; }",
        ".curves text { fill: currentColor; opacity: .75; }",
        ".curves .grid { stroke: currentColor; opacity: .14; }",
        ".curves .level { stroke: currentColor; opacity: .6; stroke-dasharray: 2 4; }",
        ".curves .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 3 3; }",
        ".curves .flag { fill: var(--mark); stroke: none; }",
        ".curves .seam { stroke: var(--seam); stroke-dasharray: 1 3; }",
        *(
            f".c{i} {{ stroke: var(--c{i}); fill: var(--c{i}); stroke-dasharray: {dash}; }}"
            for i, dash in enumerate(_DASHES)
        ),
        ".curves .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }",
        ".curves .band { stroke: none; opacity: .18; }",
        ".curves .halo { paint-order: stroke; stroke: var(--card, transparent); stroke-width: 4; }",
    ]
)
"""Style sheet of the drawings; once on a page that holds any."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: for people.
        steps: [N] ascending.
        values: [N]; NaN leaves a gap.
    """

    name: str
    steps: Floats
    values: Floats


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as what a value should be."""

    value: float
    name: str


@dataclass(frozen=True)
class Marker:
    """A step at which something happened: an alarm, or a seam such as a resume."""

    step: float
    text: str
    alarm: bool = True


@dataclass(frozen=True)
class _Scale:
    """Values to pixels: `bend` straightens the axis, then it is linear from `low` to `high`."""

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[Floats], Floats] = lambda values: values

    def __call__(self, values: Floats | float) -> Floats:
        low, high = self.bend(np.array([self.low, self.high]))
        share = (self.bend(np.asarray(values, np.float64)) - low) / (high - low)
        return np.asarray(self.start + np.clip(share, 0.0, 1.0) * (self.end - self.start))


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    levels: Sequence[Level] = (),
    markers: Sequence[Marker] = (),
    span: tuple[float | None, float | None] = (None, None),
) -> str:
    """Draw curves over one axis of steps.

    The axis of values is linear; logarithmic where all values are positive and span more than a
    hundredfold; and logarithmic to both sides of 0 where few of mixed sign dwarf the rest.

    Args:
        curves: at least one; those without a finite value are left out.
        title: what a screen reader says.
        levels: drawn where they lie within or near the values.
        markers: drawn where they lie within the steps.
        span: least and largest value of the axis at least shown; None: as the values are.

    Returns:
        An <svg> element; all text in it is escaped.
    """
    thinned = [_thin(curve) for curve in curves]
    known = [v for _, v in thinned if np.isfinite(v).any()]
    head = (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
    )
    if not known:
        middle = f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no values yet</text>'
        return f"{head}{middle}</svg>"
    x = _step_scale([steps for steps, _ in thinned])
    y, logarithmic = _value_scale(np.concatenate([v.ravel() for v in known]), levels, span)
    parts = [head, _grid(x, y, logarithmic)]
    parts += [_marker(marker, x) for marker in markers if x.low <= marker.step <= x.high]
    for i, (steps, values) in enumerate(thinned):
        parts.append(_line(steps, values, x, y, f"c{i % COLOURS}", curves[i].name))
    parts += [_level(level, y) for level in levels if y.low <= level.value <= y.high]
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from `low` to `high`, about `count`.

    >>> ticks(0.0, 1.0), ticks(-3.0, 17.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 5.0, 10.0, 15.0])
    """
    apart = (high - low) / count
    power = 10.0 ** math.floor(math.log10(apart))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= apart * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Rounded, for 3 * 0.1 is not 0.3; plus 0.0, for -0.0 would be written with its sign.
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(i * step, digits) + 0.0 for i in range(first, last + 1)]


def format_tick(value: float) -> str:
    """A number for an axis, in at most seven characters.

    >>> [format_tick(v) for v in (0.0, 0.25, -1500.0, 20_000.0, 3e6, 2e-5)]
    ['0', '0.25', '-1,500', '20k', '3M', '2e-05']
    """
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        return f"{value:.3g}"
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.4g}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def _thin(curve: Curve) -> tuple[Floats, Floats]:
    """Steps [M] and (least, median, largest) [3, M], M <= LARGEST_POINTS, NaN for gaps."""
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= LARGEST_POINTS:
        return steps, np.stack([values] * 3)
    edges = np.linspace(0, len(values), LARGEST_POINTS + 1).round().astype(int)
    bins = [values[a:b] for a, b in pairwise(edges)]
    seen = [piece[np.isfinite(piece)] for piece in bins]
    empty = np.array([np.nan])
    three = [(p.min(), np.median(p), p.max()) for p in (s if s.size else empty for s in seen)]
    centres = np.array([steps[a:b].mean() for a, b in pairwise(edges)])
    # The ends keep their steps, so that the axis reaches to the last row.
    centres[0], centres[-1] = steps[0], steps[-1]
    return centres, np.array(three, np.float64).T


def _step_scale(steps: Sequence[Floats]) -> _Scale:
    first = min(float(s[0]) for s in steps if len(s))
    last = max(float(s[-1]) for s in steps if len(s))
    if first == last:
        first, last = first - 1.0, last + 1.0
    return _Scale(min(first, 0.0 if first < 0.2 * last else first), last, LEFT, WIDTH - RIGHT)


def _value_scale(
    values: Floats, levels: Sequence[Level], span: tuple[float | None, float | None]
) -> tuple[_Scale, str]:
    """The axis of values, and which logarithm it takes: "", "log" or "both" sides of 0."""
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    low = low if span[0] is None else min(low, span[0])
    high = high if span[1] is None else max(high, span[1])
    reach = high - low
    for level in levels:
        if low - reach < level.value < high + reach:
            low, high = min(low, level.value), max(high, level.value)
    plain = _Scale(low, high, HEIGHT - BOTTOM, TOP)
    if values.min() > 0 and high / float(values.min()) > WIDE:
        low = float(values.min())
        edges = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        tight = (low * 0.9, high * 1.1) if high / low > 1e3 else edges
        return replace(plain, low=tight[0], high=tight[1], bend=np.log10), "log"
    typical = float(np.median(np.abs(values)))
    if values.min() < 0 and typical > 0 and np.abs(values).max() / typical > WIDE:
        return replace(plain, bend=lambda v: np.arcsinh(v / typical)), "both"
    # A constant gets room to both sides, in the number's own size.
    margin = 0.05 * reach if reach > 1e-9 * max(abs(low), abs(high)) else max(0.1 * abs(high), 1e-3)
    bottom = low - (0.0 if span[0] is not None and low >= span[0] else margin)
    top = high + (0.0 if span[1] is not None and high <= span[1] else margin)
    return replace(plain, low=bottom, high=top), ""


def _value_ticks(y: _Scale, logarithmic: str) -> list[float]:
    if not logarithmic:
        return ticks(y.low, y.high)
    powers = [10.0**k for k in range(-12, 13)]
    if logarithmic == "both":
        candidates = [-p for p in reversed(powers)] + [0.0] + powers
    else:
        candidates = powers
    inside = [t for t in candidates if y.low * 1.0001 >= t >= y.low or y.low <= t <= y.high]
    # 0, then from the outermost inwards, as long as the labels have room.
    kept: list[float] = []
    for tick in sorted(inside, key=lambda t: (t != 0.0, -abs(t))):
        if all(abs(float(y(tick)) - float(y(other))) >= 18.0 for other in kept):
            kept.append(tick)
    if logarithmic == "log" and len(kept) < 2:
        kept = [t for t in (p * k for p in powers for k in (1, 2, 5)) if y.low <= t <= y.high]
    return sorted(kept)


def _grid(x: _Scale, y: _Scale, logarithmic: str) -> str:
    parts = []
    for tick in _value_ticks(y, logarithmic):
        at = float(y(tick))
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{format_tick(tick)}</text>'
        )
    for tick in (t for t in ticks(x.low, x.high, 4) if t == round(t)):
        at = float(x(tick))
        anchor = "middle" if at < WIDTH - RIGHT - 14 else "end"
        parts.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">'
            f"{format_tick(tick)}</text>"
        )
    unit = "step" if not logarithmic else "step (values on a logarithmic scale)"
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{unit}</text>')
    return "".join(parts)


def _level(level: Level, y: _Scale) -> str:
    at = float(y(level.value))
    above = at - 4 if at - 4 > TOP + 8 else at + 13
    right, name = WIDTH - RIGHT, escape(level.name)
    return (
        f'<line class="level" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text x="{right - 2}" y="{above:.1f}" text-anchor="end" class="halo">{name}</text>'
    )


def _marker(marker: Marker, x: _Scale) -> str:
    at = float(x(marker.step))
    kind = "mark" if marker.alarm else "seam"
    flag = f'<path class="flag" d="M{at:.1f} {TOP}l-5 -8h10z"/>' if marker.alarm else ""
    return (
        f"<g><title>{escape(marker.text)}</title>"
        f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f"{flag}</g>"
    )


def _line(steps: Floats, values: Floats, x: _Scale, y: _Scale, colour: str, name: str) -> str:
    """One curve: its bands, its lines, and dots for points that stand alone."""
    least, median, largest = values
    finite = np.isfinite(median)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(int)))
    parts = [f"<g><title>{escape(name)}</title>"]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        across, middle = x(steps[start:end]), y(median[start:end])
        if end - start == 1:
            parts.append(
                f'<circle class="{colour}" cx="{across[0]:.1f}" cy="{middle[0]:.1f}" r="3"/>'
            )
            continue
        top, bottom = y(largest[start:end]), y(least[start:end])
        if (bottom - top).max() > 0.5:
            outline = _points(
                np.concatenate([across, across[::-1]]), np.concatenate([top, bottom[::-1]])
            )
            parts.append(f'<polygon class="band {colour}" points="{outline}"/>')
        parts.append(f'<polyline class="line {colour}" points="{_points(across, middle)}"/>')
    return "".join([*parts, "</g>"])


def _points(across: Floats, down: Floats) -> str:
    return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True))
