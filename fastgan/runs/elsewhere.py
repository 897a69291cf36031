"""What a configuration would hold on a GPU that is not here, from peaks of small volumes here.

Peak memory is a line: c + V (w + m u) bytes for m volumes at once of V voxels each, where w is of
layers that grow with the grid, u of activations, and c of the process. Three small trials give it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastgan.config import Config
from fastgan.errors import ConfigError, ResourceLimit
from fastgan.runs.estimates import Measure, bytes_of_volume, shown
from fastgan.runs.free_memory import free_memory
from fastgan.runs.prediction import CONTEXT_BYTES
from fastgan.runs.probe import measure
from fastgan.runs.trades import buildable
from fastgan.train.parts import part_sizes

__all__ = ["Elsewhere", "Line", "Option", "line_of", "predict_elsewhere", "small_shapes"]

LARGEST = 96**3
"""Voxels of a trial: a step of as many takes seconds on two cores."""
MULTIPLE = 16
MARGIN = 0.9
"""Of a GPU's memory, what is planned with: allocators keep gaps, and predictions are not exact."""


@dataclass(frozen=True)
class Line:
    """Peak bytes of a training process on the CPU."""

    process: float
    per_voxel: float
    """Of a volume, however many there are."""
    per_voxel_each: float
    """Of each volume that is held at once."""

    def tensors(self, voxels: int, volumes: int) -> float:
        """Bytes beside those of the process."""
        return voxels * (self.per_voxel + volumes * self.per_voxel_each)

    def peak(self, voxels: int, volumes: int) -> float:
        """Bytes of the process at its highest."""
        return self.process + self.tensors(voxels, volumes)


@dataclass(frozen=True)
class Option:
    """A way to train the configuration, and what it is predicted to hold on a GPU."""

    micro_batch: int
    recompute: bool
    device_bytes: int
    fits: bool


@dataclass(frozen=True)
class Elsewhere:
    """Predictions for one configuration.

    Attributes:
        config: with the first option that fits, those that cost least time first.
        options: all that were looked at, that order.
        measured: shapes of the trials here.
        memory: bytes of the GPU.
    """

    config: Config
    options: tuple[Option, ...]
    measured: tuple[tuple[int, int, int], ...]
    memory: int

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "config": self.config.model_dump(mode="json"),
            "predicted": [vars(option) for option in self.options],
            "measured": [list(shape) for shape in self.measured],
            "memory": self.memory,
        }


def predict_elsewhere(
    config: Config,
    memory: int,
    *,
    measured_by: Measure | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Elsewhere:
    """Which micro-batch, and whether recomputation, would fit into a GPU's memory: a prediction.

    Args:
        config: to be trained there; left as it is.
        memory: bytes of the GPU.
        measured_by: measures a configuration in place of `probe.measure`.
        progress: called with a line before each trial.

    Raises:
        ConfigError: volumes that are small enough to be measured themselves, by `plan_for`.
        BadFile and its kinds: data that cannot be used.
        ResourceLimit: nothing fits, or this machine does not hold the trials.
    """
    tried_by = measured_by or _measured_once
    shapes = small_shapes(config)
    voxels, batch = math.prod(config.data.shape), config.train.batch_size
    found: list[Option] = []
    for recompute in (False, True):
        line = line_of(config, shapes, recompute=recompute, measure=tried_by, progress=progress)
        for part in reversed(part_sizes(batch, config.model.minibatch_stddev)):
            waiting = (batch - part) * bytes_of_volume(config)
            held = CONTEXT_BYTES + line.tensors(voxels, part) + waiting
            found.append(Option(part, recompute, int(held), held <= MARGIN * memory))
    chosen = next((option for option in found if option.fits), None)
    if chosen is None:
        least = min(found, key=lambda option: option.device_bytes)
        raise ResourceLimit(
            f"plan: nothing is predicted to fit into {memory / 1e9:.3g} GB; train.micro_batch "
            f"{least.micro_batch}{' with train.recompute' if least.recompute else ''} would take "
            f"{least.device_bytes / MARGIN / 1e9:.3g} GB: a smaller data.shape, fewer channels or "
            "model.fold need less"
        )
    fitting = config.model_copy(deep=True)
    fitting.train.micro_batch = chosen.micro_batch if chosen.micro_batch < batch else None
    fitting.train.recompute = chosen.recompute
    return Elsewhere(fitting, tuple(found), shapes, memory)


def small_shapes(config: Config) -> tuple[tuple[int, int, int], ...]:
    """Two shapes of about these proportions that a trial here can have, the smaller first.

    Raises:
        ConfigError: there are no two of them.
    """
    factor = min((LARGEST / math.prod(config.data.shape)) ** (1 / 3), 1.0)
    found = []
    for scale in (2.0 / 3.0 * factor, factor):
        d, h, w = (
            max(round(scale * n / MULTIPLE), 1) * MULTIPLE if scale < 1.0 else n
            for n in config.data.shape
        )
        small = config.model_copy(deep=True)
        small.data.shape = (d, h, w)
        if buildable(small) and small.data.shape not in found:
            found.append(small.data.shape)
    if len(found) < 2:
        raise ConfigError(
            f"data.shape: {' x '.join(map(str, config.data.shape))} is too small to be predicted "
            "from smaller volumes; leave out --gpu"
        )
    return tuple(found)


def line_of(
    config: Config,
    shapes: tuple[tuple[int, int, int], ...],
    *,
    recompute: bool,
    measure: Measure,
    progress: Callable[[str], None] = lambda text: None,
) -> Line:
    """The line through trials of two shapes, the larger one also with twice as many volumes."""
    # Not one volume: for that PyTorch's convolutions on a CPU take another, larger path.
    group = 2 * max(config.model.minibatch_stddev, 1)
    small, large = shapes
    peaks = []
    for shape, volumes in ((small, group), (large, group), (large, 2 * group)):
        trial = config.model_copy(deep=True)
        trial.data.shape, trial.train.device = shape, "cpu"
        trial.train.batch_size, trial.train.micro_batch = volumes, None
        trial.train.recompute = recompute
        if not trial.translates:
            trial.gan.critic_steps = 1
        progress(f"measuring {shown(trial)}")
        peaks.append(measure(trial).host_bytes)
    few, many = math.prod(small), math.prod(large)
    each = max((peaks[2] - peaks[1]) / (many * group), 0.0)
    slope = max((peaks[1] - peaks[0]) / (many - few), group * each)
    return Line(peaks[1] - many * slope, slope - group * each, each)


def _measured_once(config: Config) -> Any:
    """One step suffices for a peak."""
    found = measure(config, memory=free_memory("cpu"), patience=0.0)
    return replace(found, steps=0)
