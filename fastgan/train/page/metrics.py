"""metrics.jsonl as series, and what they say of a run's speed."""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastgan.arrays import Floats
from fastgan.config import MOST_STEPS, Config
from fastgan.guarded import open_plain, system_error
from fastgan.pictures.curves import Curve

__all__ = ["Metrics", "read_metrics", "seconds_per_step", "seconds_spent", "volumes_per_step"]

Metrics = Mapping[str, Curve]
"""By the names in metrics.jsonl; a value that was not finite is NaN."""

SPEED = "volumes_per_second"
_RECENT = 20
LONGEST = 1 << 20
"""Bytes of a row; what is longer is cut, and then no row."""


def read_metrics(path: Path) -> dict[str, Curve]:
    """Every figure of a run by name.

    A row without a figure (a step that does not evaluate it) is no point of its curve; null is
    one, of NaN. Lines that are no rows, such as one that was cut short, are left out.

    Raises:
        BadFile: the file cannot be read.
    """
    # Step and value in turn, by name; plain arrays, for a long run has millions of figures.
    points: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    with open_plain(path) as file:
        try:
            while line := file.readline(LONGEST):
                _add(line, points)
        except OSError as error:
            raise system_error(path, "read", error) from error
    pairs = {name: np.frombuffer(found).reshape(-1, 2) for name, found in points.items()}
    return {name: Curve(name, found[:, 0], found[:, 1]) for name, found in pairs.items()}


def _add(line: bytes, points: defaultdict[str, array[float]]) -> None:
    try:
        row = json.loads(line)
        step = float(row.pop("step"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return
    if not (math.isfinite(step) and 0.0 <= step <= MOST_STEPS):
        return
    for name, value in row.items():
        if isinstance(value, float | int) and abs(value) <= sys.float_info.max:
            points[name].extend((step, value))
        elif value is None:
            points[name].extend((step, math.nan))


def volumes_per_step(config: Config, counters: Mapping[str, object]) -> float:
    """Real volumes that one step takes.

    Args:
        config: of the run.
        counters: of its newest checkpoint, {} if there is none; believed before the configuration.
    """
    step, volumes = counters.get("step"), counters.get("volumes")
    if isinstance(step, int) and isinstance(volumes, int) and step > 0 and volumes > 0:
        return volumes / step
    batches = 1 if config.translates else config.gan.critic_steps
    return float(config.train.batch_size * batches)


def seconds_per_step(metrics: Metrics, volumes: float) -> float | None:
    """Of the last rows, the median; None before the first row.

    Args:
        metrics: of the run.
        volumes: that one step takes.
    """
    rates = _rates(metrics)[1][-_RECENT:]
    return volumes / float(np.median(rates)) if len(rates) else None


def seconds_spent(metrics: Metrics, volumes: float) -> float:
    """What all steps up to the last row took, checkpoints and pictures included."""
    steps, rates = _rates(metrics)
    taken: Floats = np.diff(steps, prepend=0.0) * volumes / rates
    return float(taken.sum())


def _rates(metrics: Metrics) -> tuple[Floats, Floats]:
    if SPEED not in metrics:
        return np.zeros(0), np.zeros(0)
    curve = metrics[SPEED]
    known = np.isfinite(curve.values) & (curve.values > 0)
    return curve.steps[known], curve.values[known]
