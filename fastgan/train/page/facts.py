"""A run in words: its state, what it read, and how it was set."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from fastgan.config import Config
from fastgan.pictures.html import number
from fastgan.train.history import State

__all__ = ["about_data", "about_settings", "about_state", "duration", "moment"]

METHODS = {
    "window": "a fixed window",
    "full": "the full range of the values",
    "unit": "the range 0 to 1",
}
UNITS = {"ct": " HU"}


def duration(seconds: float) -> str:
    """A time span as people say it.

    >>> duration(0.2), duration(95), duration(5000), duration(200_000)
    ('less than 1 s', '1 min 35 s', '1 h 23 min', '2 days 8 h')
    """
    if seconds < 1:
        return "less than 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(at: float) -> str:
    """A time of day with its date and zone, on this machine's clock."""
    return datetime.fromtimestamp(at).astimezone().strftime("%d %b %Y, %H:%M:%S %Z")


def about_state(
    state: State, config: Config, run: Path, *, now: float, alive: float, left: float | None
) -> tuple[str, str]:
    """What the run is doing: a headline, and the sentences below it.

    Args:
        state: of the run.
        config: of the run.
        run: its folder, for the line that resumes it.
        now: when the page is written, in seconds since 1970.
        alive: when the run last wrote figures.
        left: seconds to its end, None if unknown.
    """
    steps = config.train.steps
    far = f"step {state.step:,} of {steps:,}"
    resume = f"fastgan train --resume {shlex.quote(str(run))}"
    again = f"It goes on from its newest checkpoint with: {resume}"
    when = "" if state.at is None else f" on {moment(state.at)}"
    if state.kind == "running":
        rest = f", about {duration(left)} left" if left is not None else ""
        return f"Running: {far}{rest}", (
            f"Last written {moment(now)}. The page is rewritten as figures come in; if that is "
            "long ago, the run has ended without being able to say so."
        )
    if state.kind == "finished":
        return f"Finished: all {steps:,} steps done", f"The last step was done{when}."
    if state.kind == "stopped":
        return f"Stopped by signal {state.reason} after {far}", f"Stopped{when}. {again}"
    if state.kind == "failed":
        return (
            f"Ended by an error after {far}",
            f"{state.reason}{'' if not when else f' ({when[4:]})'}",
        )
    if state.kind == "vanished":
        return f"Ended without a word after {far}", (
            f"The process was killed, or the power went; it last wrote on {moment(alive)}. {again}"
        )
    return f"Not running: {far}", f"It last wrote on {moment(alive)}. {again}"


def about_data(data: Mapping[str, Any], config: Config) -> Iterator[tuple[str, list[str]]]:
    """What was read and how it was normalised: a heading and sentences for each domain.

    Args:
        data: content of data.json.
        config: of the run.
    """
    other = data.get("b")
    if other is None:
        yield "", _domain(data, config.data.source, config)
        return
    yield "Domain A", _domain(data, config.data.source, config)
    yield "Domain B", _domain(other, str(config.data.source_b), config)


def _domain(data: Mapping[str, Any], source: str, config: Config) -> list[str]:
    kinds = ", ".join(data.get("modalities") or [])
    lines = [
        f"{number(data.get('volumes'))} volumes for training from {source} ({kinds or 'unknown'})."
    ]
    if config.data.holdout:
        lines[0] += f" {config.data.holdout:.0%} of the patients were set aside and never shown."
    classes = data.get("classes") or []
    if classes:
        shares = (
            f"{n} {share:.0%}" for n, share in zip(classes, data.get("prior", []), strict=False)
        )
        used = "" if config.data.conditional else " (not used: the run is not conditional)"
        lines.append(f"{len(classes)} classes: {', '.join(shares)}{used}.")
    shape, spacing = data.get("shape", []), data.get("spacing", [])
    extent = " x ".join(f"{n * mm:.4g}" for n, mm in zip(shape, spacing, strict=False))
    lines.append(
        f"Shown to the networks as {' x '.join(map(str, shape))} voxels of "
        f"{' x '.join(f'{mm:.3g}' for mm in spacing)} mm, that is {extent} mm"
        + (", cut out at random places." if config.data.sampling == "patch" else ".")
    )
    lines.append(_normalised(data.get("normalisation") or {}))
    if config.data.classic:
        lines.append(f"Varied as they are drawn: {', '.join(config.data.classic)}.")
    return lines


def _normalised(record: Mapping[str, Any]) -> str:
    if not {"low", "high"} <= record.keys():
        return "How intensities were normalised is not recorded."
    unit = UNITS.get(str(record.get("modality")), "")
    method = str(record.get("method", ""))
    text = (
        f"Intensities from {number(record['low'])} to {number(record['high'])}{unit} became -1 to "
        f"1, by {METHODS.get(method, method or 'an unknown method')}"
    )
    if record.get("per_volume"):
        text += ", of each volume by itself (the median is given)"
    clipped, padding = (float(record.get(key) or 0.0) for key in ("clipped", "padding"))
    if clipped:
        text += f"; {_share(clipped)} of the voxels lay outside and were clipped"
    if padding:
        text += f"; {_share(padding)} are a scanner's padding"
    return f"{text}."


def _share(share: float) -> str:
    """A share that is not 0, which is not written as 0 % either."""
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1 %"


def about_settings(config: Config, environment: Mapping[str, Any]) -> dict[str, str]:
    """The main points of a configuration, name to value."""
    gan, model, train = config.gan, config.model, config.train
    translates = config.translates
    objective = gan.objective or ("least-squares" if translates else "wgan-gp")
    points = {"game": f"{'CycleGAN' if translates else 'GAN'}, {objective}"}
    if translates:
        points["weights"] = f"cycle {gan.lambda_cycle:g}, identity {gan.lambda_identity:g}"
        points["translators"] = f"{model.translator}, channels {_widths(model.translator_channels)}"
        points["critics"] = f"channels {_widths(model.patch_critic_channels)}"
    else:
        if gan.penalty != "none":
            points["penalty"] = f"{gan.penalty}, weight {gan.penalty_weight:g}"
        points["critic steps"] = f"{gan.critic_steps} to each generator step"
        points["generator"] = f"{model.architecture}, channels {_widths(model.generator_channels)}"
        points["critic"] = f"channels {_widths(model.critic_channels)}, norm {model.critic_norm}"
    if math.prod(model.fold) > 1:
        points["fold"] = " x ".join(map(str, model.fold))
    points |= {
        "batch": f"{train.batch_size} volumes",
        "learning rates": f"generator {train.lr_generator}, critic {train.lr_critic}",
        "average of weights": f"decay {train.ema_decay:g}",
        "computed on": _machine(train.device, environment),
        "precision": train.precision,
        "seed": str(config.seed),
    }
    versions = (
        f"{k} {environment[k]}" for k in ("fastgan", "torch", "python") if environment.get(k)
    )
    return points | {"versions": ", ".join(versions)}


def _machine(device: str, environment: Mapping[str, Any]) -> str:
    devices = ", ".join(map(str, environment.get("devices") or []))
    if device != "cpu" and devices:
        return devices
    return f"CPU, {environment.get('threads', 'unknown')} threads"


def _widths(widths: tuple[int, ...]) -> str:
    return ", ".join(map(str, widths))
