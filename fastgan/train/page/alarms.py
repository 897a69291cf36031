"""What looks wrong in a run's figures, since when, and what to do about it, in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats
from fastgan.config import Config
from fastgan.pictures.curves import Curve
from fastgan.train.page.metrics import SPEED, Metrics

__all__ = ["LOOKED_FOR", "Alarm", "alarms_of"]

LOOKED_FOR = (
    "Looked for: numbers that are not finite, collapse, a critic that has won or is too steep or "
    "too flat, a distance that keeps rising, a class that lags, changed anatomy, falling speed, "
    "growing memory."
)
LEAST_ROWS = 20
"""Rows of metrics from which a tendency is spoken of; the first steps of any GAN look bad."""
COLLAPSED = 0.8
WON = 0.95
STEEP, FLAT = 3.0, 0.3
LAGS = 3.0
RISES = 1.5
SLOWED = 0.5
GROWN = 1.5


@dataclass(frozen=True)
class Alarm:
    """One thing that looks wrong.

    Attributes:
        title: in a few words.
        seen: what was found, with numbers.
        advice: what to do.
        steps: where it is marked in the charts; () where it is a tendency.
        chart: key of the chart that shows it.
        metrics: names it was found in, whose charts are marked.
    """

    title: str
    seen: str
    advice: str
    chart: str
    steps: tuple[float, ...] = ()
    metrics: tuple[str, ...] = ()


def alarms_of(metrics: Metrics, config: Config) -> list[Alarm]:
    """All that looks wrong, the gravest first.

    Tendencies are those of the last quarter of the rows.

    Args:
        metrics: of the run.
        config: of the run.
    """
    looks: tuple[Callable[[Metrics, Config], Iterator[Alarm]], ...] = (
        _not_finite,
        _left_out,
        _structure,
        _collapse,
        _critic_won,
        _slope,
        _distance,
        _classes,
        _machine,
    )
    return [alarm for look in looks for alarm in look(metrics, config)]


def _not_finite(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    names = [name for name in metrics if name.endswith(("/loss", "/gradient_norm"))]
    bad = {name: metrics[name].steps[np.isnan(metrics[name].values)] for name in names}
    bad = {name: steps for name, steps in bad.items() if len(steps)}
    if bad:
        steps = np.unique(np.concatenate([*bad.values()]))
        yield Alarm(
            "A number that is not finite",
            f"{' and '.join(bad)}: not a number or infinite in {len(steps)} of the rows, first at "
            f"step {int(steps[0]):,}.",
            "Lower --lr-generator and --lr-critic, or train with --precision float32. If it is one "
            "volume that does it, fastgan inspect finds broken values in files.",
            "losses",
            tuple(float(step) for step in steps),
            tuple(bad),
        )


def _left_out(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    for name, curve in metrics.items():
        if name.startswith("skipped/") and curve.values[-1] > 0:
            phase = name.removeprefix("skipped/")
            yield Alarm(
                f"Updates of the {phase} were left out",
                f"{int(curve.values[-1]):,} up to step {int(curve.steps[-1]):,}, first noted at "
                f"step {int(curve.steps[0]):,}, because a number was not finite.",
                "A few do no harm. If there are more and more, lower the learning rates.",
                "skipped",
                (float(curve.steps[0]),),
                (name,),
            )


def _structure(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    kinds = {
        "inverted": (
            "Translations with inverted contrast",
            "Look at the pictures. Start again with another --seed; where both domains show a "
            "tissue alike, set --lambda-identity above 0. docs/cyclegan.md has more.",
        ),
        "drifted": (
            "Translations that move, grow or cut the body",
            "Look at the pictures. Do not use these translations. Both folders must show the same "
            "part of the body, at one spacing; then start again with another --seed.",
        ),
    }
    for name, curve in metrics.items():
        match = re.fullmatch(r"pictures/alarm/(\w+)_([AB])([AB])", name)
        if match and match[1] in kinds and curve.values[-1] > 0:
            title, advice = kinds[match[1]]
            seen = curve.steps[curve.values > 0]
            yield Alarm(
                f"{title}, {match[2]} to {match[3]}",
                f"{curve.values[-1]:.0%} of the volumes pictured at step {int(curve.steps[-1]):,}; "
                f"first seen at step {int(seen[0]):,}.",
                advice,
                "structure-alarms",
                tuple(float(step) for step in seen),
                (name,),
            )


def _collapse(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    remedy = "Lower --lr-critic,"
    if not config.translates and not config.model.minibatch_stddev:
        remedy = "Set --minibatch-stddev to a divisor of the batch size, lower --lr-critic,"
    for name, curve in metrics.items():
        if not re.fullmatch(r"critic/collapse(/.+)?", name):
            continue
        lost = _late(curve)
        if lost is not None and lost >= COLLAPSED:
            of = name.removeprefix("critic/collapse").removeprefix("/")
            yield Alarm(
                "The generator repeats itself (mode collapse)" + (f": {of}" if of else ""),
                f"Its volumes lack {lost:.0%} of the variety of real ones, over the last quarter.",
                f"{remedy} or start again with another --seed. With few patients add --augment "
                "flip shift.",
                "collapse",
                metrics=(name,),
            )


def _critic_won(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    tops = {"jensen_shannon": np.log(2.0), "total_variation": 1.0, "le_cam": 1.0}
    for name, curve in metrics.items():
        match = re.fullmatch(r"critic/(jensen_shannon|total_variation|le_cam)(_[AB])?", name)
        late = _late(curve) if match else None
        if match and late is not None and late >= WON * tops[match[1]]:
            yield Alarm(
                "The critic has won",
                f"It told nearly every volume apart over the last quarter ({late:.2f} of at most "
                f"{tops[match[1]]:.2f}): the generator learns little more.",
                "Lower --lr-critic or --critic-steps, set --spectral-norm, or --penalty r1.",
                "divergence" if match[1] == "jensen_shannon" else "share-apart",
                metrics=(name,),
            )


def _slope(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    name = "critic/gradient_norm"
    late = _late(metrics[name]) if name in metrics and config.gan.penalty == "wgan-gp" else None
    if late is None or FLAT <= late <= STEEP:
        return
    steep = late > STEEP
    yield Alarm(
        "The critic is too steep" if steep else "The critic is too flat",
        f"Its slope was {late:.2g} over the last quarter; about 1 is wanted.",
        "Raise --penalty-weight, or lower --lr-critic."
        if steep
        else "Give it more to learn with: --critic-steps 5, or a higher --lr-critic.",
        "slope",
        metrics=(name,),
    )


def _distance(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    name = "critic/wasserstein"
    if name not in metrics:
        return
    values = _finite(metrics[name])
    if len(values) < 2 * LEAST_ROWS:
        return
    second, third, last = (float(np.median(part)) for part in np.array_split(values, 4)[1:])
    if 0 < second < third < last and last > RISES * second:
        yield Alarm(
            "The distance to the real volumes keeps rising",
            f"From {second:.3g} in the second quarter of the run to {last:.3g} in the last.",
            "If the pictures get better, go on. If they do not: lower both learning rates, or use "
            "more --critic-steps. With few patients the critic learns them by heart: add --augment "
            "flip shift.",
            "wasserstein",
            metrics=(name,),
        )


def _classes(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    prefix = "critic/score_gap/"
    gaps = {name: _late(curve) for name, curve in metrics.items() if name.startswith(prefix)}
    known = sorted((gap, name) for name, gap in gaps.items() if gap is not None)
    if len(known) < 2:
        return
    (others, _), (largest, worst) = known[-2:]
    if largest > LAGS * max(abs(gap) for gap, _ in known[:-1]) > 0:
        yield Alarm(
            f"Class {worst.removeprefix(prefix)} lags behind",
            f"The critic tells its volumes apart by {largest:.3g}, those of the next class by "
            f"{others:.3g}, over the last quarter.",
            "Look at its pictures. A class of few patients needs more of them; --sampler balanced "
            "shows each class equally often.",
            "classes",
            metrics=(worst,),
        )


def _machine(metrics: Metrics, config: Config) -> Iterator[Alarm]:
    if (late := _late_of(metrics, SPEED)) is not None:
        usual = float(np.median(_finite(metrics[SPEED])))
        if late < SLOWED * usual:
            yield Alarm(
                "Slower than before",
                f"{late:.3g} volumes a second over the last quarter, {usual:.3g} over the run.",
                "Another program may use the machine, or it ran hot, or memory is short.",
                "speed",
                metrics=(SPEED,),
            )
    if (late := _late_of(metrics, "memory")) is not None:
        values = _finite(metrics["memory"])
        early = float(values[len(values) // 4])
        if late > GROWN * early:
            yield Alarm(
                "Memory keeps growing",
                f"From {early / 2**30:.2f} GiB in the first quarter to {late / 2**30:.2f} GiB.",
                "The run may end for want of memory before its last step. Checkpoints are kept: it "
                "can be resumed.",
                "memory",
                metrics=("memory",),
            )


def _finite(curve: Curve) -> Floats:
    return curve.values[np.isfinite(curve.values)]


def _late(curve: Curve) -> float | None:
    """Median over the last quarter of the rows; None where that would say too little."""
    values = _finite(curve)
    return float(np.median(values[-(len(values) // 4) :])) if len(values) >= LEAST_ROWS else None


def _late_of(metrics: Metrics, name: str) -> float | None:
    return _late(metrics[name]) if name in metrics else None
