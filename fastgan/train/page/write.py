"""Write run.html from a run folder alone."""

from __future__ import annotations

import html
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastgan.config import dump
from fastgan.durable import replace_file
from fastgan.errors import BadFile, UnsafeFile
from fastgan.guarded import read_plain, typed
from fastgan.pictures import curves
from fastgan.pictures.curves import COLOURS, Curve, Marker, draw_curves
from fastgan.pictures.html import template
from fastgan.train import checkpoint, history
from fastgan.train.page.alarms import LOOKED_FOR, Alarm, alarms_of
from fastgan.train.page.charts import Chart, charts_of
from fastgan.train.page.facts import about_data, about_settings, about_state, duration
from fastgan.train.page.metrics import (
    SPEED,
    Metrics,
    read_metrics,
    seconds_per_step,
    seconds_spent,
    volumes_per_step,
)
from fastgan.train.page.pictures import gallery, spread
from fastgan.train.run_folder import RunFolder
from fastgan.train.samples import sample_pictures

__all__ = ["write_page"]

_FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")
MARKS = 40  # of one alarm in a chart
RELOAD = 60
"""Seconds after which a browser reads the page of a running training again."""


@dataclass(frozen=True)
class Drawing:
    """A chart of the page: its SVG, and each curve's name, class of its colour and last value."""

    chart: Chart
    svg: str
    legend: tuple[tuple[str, str, float | None], ...]


@typed("run.html")
def write_page(run_folder: Path | str) -> Path:
    """Write `run.html` into a run folder, from what lies in it; replaces it at once or not at all.

    The page needs nothing beside it: no network, no script, no other file.

    Args:
        run_folder: of a run that runs, or ran.

    Returns:
        The page's path.

    Raises:
        BadFile, CorruptFile, ConfigError: it is no run folder, or its files cannot be read.
        ResourceLimit: the disk is full.

    Cost: reads metrics.jsonl (15 us a row) and at most six pictures.
    """
    run = RunFolder(run_folder)
    path = run.path / "run.html"
    replace_file(path, _render(run).encode())
    return path


def _render(run: RunFolder) -> str:
    config, data = run.config(), run.data()
    metrics_file = run.path / "metrics.jsonl"
    metrics = read_metrics(metrics_file)
    counters = _counters(run.path)
    counted = counters.get("step")
    step = max([int(c.steps[-1]) for c in metrics.values()], default=0)
    step = max(step, counted) if isinstance(counted, int) else step
    state = history.state(run.path, step, config.train.steps)
    volumes = volumes_per_step(config, counters)
    pace = seconds_per_step(metrics, volumes)
    left = None if pace is None else pace * (config.train.steps - state.step)
    now = time.time()
    headline, sentences = about_state(
        state, config, run.path, now=now, alive=metrics_file.stat().st_mtime, left=left
    )
    alarms = alarms_of(metrics, config)
    seams = [Marker(s, f"resumed after step {s:,}", alarm=False) for s in state.begun[1:]]
    shown = gallery(sample_pictures(run.path, state.step))
    text: str = _page().render(
        run=run.path.resolve().name,
        style=curves.STYLE,
        reload=RELOAD if state.kind == "running" else None,
        patients=any(row.pictures for row in shown.newest) and "b" in data,
        state=state,
        headline=headline,
        sentences=sentences,
        share=min(1.0, state.step / config.train.steps),
        glance=_glance(metrics, pace, seconds_spent(metrics, volumes)),
        alarms=alarms,
        looked_for=LOOKED_FOR,
        gallery=shown,
        drawings=[_draw(c, metrics, alarms, seams) for c in charts_of(metrics, config)],
        data=list(about_data(data, config)),
        settings=about_settings(config, _environment(run.path)),
        config=dump(config),
    )
    return text


def _draw(
    chart: Chart, metrics: Metrics, alarms: Sequence[Alarm], seams: Sequence[Marker]
) -> Drawing:
    shown = [
        Curve(called, metrics[name].steps, metrics[name].values / chart.unit)
        for name, called in chart.metrics.items()
    ]
    marks = [
        Marker(step, f"{alarm.title}, step {step:,.0f}")
        for alarm in alarms
        if not {*chart.metrics}.isdisjoint(alarm.metrics)
        for step in spread(alarm.steps, MARKS)
    ]
    svg = draw_curves(
        shown,
        title=f"{chart.title}: {chart.caption}",
        levels=chart.levels,
        markers=[*seams, *marks],
        span=chart.span,
    )
    legend = tuple((c.name, f"c{i % COLOURS}", _last(c)) for i, c in enumerate(shown))
    return Drawing(chart, svg, legend)


def _last(curve: Curve) -> float | None:
    value = float(curve.values[-1])
    return value if math.isfinite(value) else None


def _glance(metrics: Metrics, pace: float | None, spent: float) -> dict[str, str]:
    """What one wants to know first, name to value."""
    found = {}
    if pace is not None:
        found["speed"] = f"{metrics[SPEED].values[-1]:.3g} volumes a second"
        found["a step takes"] = duration(pace) if pace >= 10 else f"{pace:.2g} s"
        found["trained for"] = duration(spent)
    if "memory" in metrics:
        found["memory"] = f"{metrics['memory'].values[-1] / 2**30:.2f} GiB at the highest"
    return found


def _counters(run: Path) -> Mapping[str, Any]:
    """Counters of the newest checkpoint that has any; unverified, for they are only shown."""
    for step in checkpoint.steps(run):
        found = _json(run / f"ckpt-{step}" / checkpoint.STATE)
        if found:
            return found
    return {}


def _environment(run: Path) -> Mapping[str, Any]:
    return _json(run / "env.json")


def _json(path: Path) -> Mapping[str, Any]:
    """A JSON mapping; {} where there is none."""
    try:
        content = json.loads(read_plain(path))
    except UnsafeFile:
        raise
    except (BadFile, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@cache
def _page() -> Any:
    return template("fastgan.train.page", "run.html.j2", flags=_flags)


def _flags(text: str) -> str:
    """Escaped text whose command-line flags do not break over lines."""
    from markupsafe import Markup

    return Markup(_FLAG.sub(r"<code>\g<0></code>", html.escape(text)))
