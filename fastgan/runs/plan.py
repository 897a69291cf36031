"""A plan: what a configuration costs on this machine, and one that ends within a budget."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastgan import config as configuration
from fastgan.config import Config
from fastgan.errors import ConfigError, DeviceError, ResourceLimit
from fastgan.runs.prediction import Prediction, fixed_seconds, predict, prepare_seconds
from fastgan.runs.prediction import seconds_a_step as seconds_a_step_of
from fastgan.runs.probe import Measurement, measure
from fastgan.runs.trades import LEAST_STEPS, trades_for

__all__ = ["Plan", "Planner", "free_memory", "plan_for"]

MARGIN = 0.9
"""Of the time and the memory named, what a plan uses: predictions are not exact."""
ATTEMPTS = 6
"""Configurations measured as a whole before giving up."""
Measure = Callable[[Config], Measurement]


@dataclass(frozen=True)
class Plan:
    """A configuration that fits, what it takes, and what it gave up.

    Attributes:
        config: to be trained.
        measured: of this very configuration.
        prediction: what training it and generating volumes take.
        traded: one sentence for each thing given up, in the order it was.
        notes: what a person should know.
        hours, memory: the budget: hours of training, bytes on the device that trains.
    """

    config: Config
    measured: Measurement
    prediction: Prediction
    traded: tuple[str, ...]
    notes: tuple[str, ...]
    hours: float
    memory: int

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "config": self.config.model_dump(mode="json"),
            "prediction": self.prediction.as_json(),
            "traded": list(self.traded),
            "notes": list(self.notes),
            "hours": self.hours,
            "memory": self.memory,
            "steps_measured": self.measured.steps,
            "load": self.measured.load,
        }


def plan_for(
    config: Config,
    *,
    hours: float = 8.0,
    memory: int | None = None,
    count: int = 100,
    keep: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
    measured_by: Measure | None = None,
) -> Plan:
    """Measure `config` here, and give up as little as lets its training end within a budget.

    Args:
        config: what one would like to train.
        hours: of training, preparing the data included; > 0.
        memory: bytes on the device that trains; None: what it has free.
        count: volumes whose generation is predicted, >= 1.
        keep: dotted keys that stay as they are.
        progress: called with a line before each measurement.
        measured_by: measures a configuration in place of `probe.measure`.

    Raises:
        ConfigError: an argument that cannot be, a device that is not there, or a configuration
            that `fastgan train` would refuse.
        BadFile and its kinds: data that cannot be used.
        ResourceLimit: nothing fits; says what the smallest thing would take.
    """
    if not (math.isfinite(hours) and hours > 0.0):
        raise ConfigError(f"hours: must be a number above 0, got {hours:g}")
    if memory is not None and memory < 1:
        raise ConfigError(f"memory: must be above 0, got {memory} bytes")
    if count < 1:
        raise ConfigError(f"count: must be at least 1, got {count}")
    unknown = [key for key in keep if key not in configuration.known_keys()]
    if unknown:
        raise ConfigError(f"keep: unknown key {unknown[0]!r}")

    from fastgan.train.device import resolve
    from fastgan.train.precision import resolve_precision

    device = resolve(config.train.device)
    free = free_memory(device.type)
    budget = free if memory is None else memory
    notes = []
    if budget > free:
        notes.append(f"{_gb(budget)} of memory are planned for, {_gb(free)} are free now")
    host = budget if device.type == "cpu" else free_memory("cpu")
    # CUDA maps far more than it uses, so there the limit would hit the driver.
    limit = host if device.type == "cpu" else None
    measured_by = measured_by or (lambda candidate: measure(candidate, memory=limit))
    wanted = config.model_copy(deep=True)
    traded = []
    wider = resolve_precision("auto", device)
    narrow = wanted.train.precision == "float32" and wider == "bfloat16"
    if narrow and "train.precision" not in keep:
        wanted.train.precision = "auto"
        traded.append("train.precision float32 -> auto: this device multiplies bfloat16 faster")
    planner = Planner(
        wanted, device.type, hours * 3600.0, budget, host, count, tuple(keep), measured_by, progress
    )
    plan = planner.plan()
    plan = replace(plan, traded=(*traded, *plan.traded), notes=(*notes, *plan.notes))
    # Checked as a whole, as a file would be.
    configuration.parse(plan.config.model_dump(mode="json"), where="plan")
    return plan


@dataclass(frozen=True)
class _Estimate:
    """Of one configuration, or of one like it with another batch size and critic steps."""

    step_seconds: float
    host_bytes: float
    device_held: float


class Planner:
    """Looks for a configuration that fits.

    Networks of one size are measured with two small batches; step and memory grow along a line
    with the batch. What is chosen so is measured as it is, and where that shows it not to fit the
    line is corrected and the search goes on.
    """

    def __init__(
        self,
        wanted: Config,
        device: str,
        seconds: float,
        memory: int,
        host: int,
        count: int,
        keep: tuple[str, ...],
        measured_by: Measure,
        progress: Callable[[str], None],
    ) -> None:
        self._wanted, self._device = wanted, device
        self._seconds, self._memory, self._host = seconds, memory, host
        self._count, self._measure, self._progress = count, measured_by, progress
        self._keep_steps = "train.steps" in keep
        self._trades = [t for t in trades_for(device) if not set(t.keys) & set(keep)]
        self._small: dict[str, list[tuple[Config, Measurement]]] = {}
        self._slower: dict[str, float] = {}
        self._larger: dict[str, float] = {}
        self._best: tuple[Config, _Estimate] | None = None
        self._refusal = ""

    def plan(self) -> Plan:
        """The configuration that is chosen again after it was measured.

        Raises:
            as `plan_for`.
        """
        known: dict[str, Measurement] = {}
        chosen, traded = self._choose()
        for _ in range(ATTEMPTS):
            key = configuration.dump(chosen)
            if key in known:
                return self._finished(chosen, known[key], traded)
            self._progress(f"measuring {shown(chosen)}")
            try:
                known[key] = self._measure(chosen)
                self._correct(chosen, known[key])
            except ResourceLimit as error:
                self._refusal = str(error)
                self._correct(chosen, None)
            chosen, traded = self._choose()
        raise self._nothing_fits()

    def _finished(self, chosen: Config, measured: Measurement, traded: list[str]) -> Plan:
        wish = self._wanted.train.steps
        chosen.train.steps = min(wish, self._steps_in(chosen, measured))
        if chosen.train.steps < wish:
            traded.append(
                f"train.steps {wish} -> {chosen.train.steps}: as many as the time holds; look at "
                "the pictures before believing that it is enough"
            )
        prediction = predict(chosen, measured, count=self._count)
        return Plan(
            config=chosen,
            measured=measured,
            prediction=prediction,
            traded=tuple(traded),
            notes=tuple(_notes(measured)),
            hours=self._seconds / 3600.0,
            memory=self._memory,
        )

    def _choose(self) -> tuple[Config, list[str]]:
        """The wish with as few trades as the estimates say are needed.

        Raises:
            as `plan_for`.
        """
        config = self._wanted.model_copy(deep=True)
        traded: list[str] = []
        while (found := self._next_trade(config)) is not None:
            config, said = found
            traded.append(said)
        estimate = self._estimate(config)
        if not self._holds(estimate) or self._steps(config, estimate) < self._least():
            self._best = (config, estimate)
            raise self._nothing_fits()
        return config, traded

    def _next_trade(self, config: Config) -> tuple[Config, str] | None:
        """The first trade that is needed, helps and can be made: the changed config, how."""
        estimate = self._estimate(config)
        holds, steps = self._holds(estimate), self._steps(config, estimate)
        runs = math.isfinite(estimate.step_seconds)
        for trade in self._trades:
            needed = steps < self._least(trade.below) or (trade.saves_memory and not holds)
            # Where not even the smallest batch runs, only other networks can help.
            if not needed or not (runs or trade.networks):
                continue
            changed = config.model_copy(deep=True)
            said = trade.change(changed)
            if said is not None:
                return changed, said
        return None

    def _least(self, below: int = LEAST_STEPS) -> int:
        """Steps that must fit, never more than are wished for."""
        wish = self._wanted.train.steps
        return wish if self._keep_steps else min(wish, below)

    def _holds(self, estimate: _Estimate) -> bool:
        if estimate.host_bytes > MARGIN * self._host:
            return False
        return self._device == "cpu" or estimate.device_held <= MARGIN * self._memory

    def _estimate(self, config: Config) -> _Estimate:
        """By the line through the small batches of these networks."""
        key = _networks(config)
        if key not in self._small:
            self._small[key] = list(self._stand_ins(config))
        found = self._small[key]
        if not found:
            return _Estimate(math.inf, math.inf, math.inf)
        size, updates = config.train.batch_size, config.gan.critic_steps
        slower, larger = self._slower.get(key, 1.0), self._larger.get(key, 1.0)

        def line(values: Sequence[float]) -> float:
            batches = [c.train.batch_size for c, _ in found]
            return along_line(batches, values, size)

        step = line([m.step_seconds for _, m in found])
        # A stand-in updates its critic once.
        step += (updates - 1) * line([m.critic_seconds for _, m in found])
        return _Estimate(
            slower * step,
            larger * line([m.host_bytes for _, m in found]),
            larger * line([m.device_held for _, m in found]),
        )

    def _stand_ins(self, config: Config) -> Iterator[tuple[Config, Measurement]]:
        group = max(config.model.minibatch_stddev, 1)
        sizes = sorted({min(size, config.train.batch_size) for size in (2 * group, 4 * group)})
        for size in sizes:
            small = config.model_copy(deep=True)
            small.train.batch_size = size
            if small.gan.variant != "cyclegan":
                small.gan.critic_steps = 1
            self._progress(f"measuring {shown(small)}")
            try:
                found = self._measure(small)
            except ResourceLimit as error:
                self._refusal = str(error)
                return
            yield small, found
            if not found.steps:
                # Too slow for a second look; the line is then one through zero.
                return

    def _correct(self, config: Config, measured: Measurement | None) -> None:
        """Learn from a configuration that did not fit although the estimate said so."""
        key, estimate = _networks(config), self._estimate(config)
        if measured is None:
            # So that it is seen not to fit, and what is smaller in proportion.
            beyond = 1.01 * MARGIN * max(
                self._host / estimate.host_bytes, self._memory / max(estimate.device_held, 1.0)
            )
            self._larger[key] = self._larger.get(key, 1.0) * max(beyond, 1.0)
            return
        found = _Estimate(measured.step_seconds, measured.host_bytes, measured.device_held)
        self._slower[key] = self._slower.get(key, 1.0) * max(
            found.step_seconds / estimate.step_seconds, 1.0
        )
        ratios = [found.host_bytes / estimate.host_bytes]
        if estimate.device_held:
            ratios.append(found.device_held / estimate.device_held)
        self._larger[key] = self._larger.get(key, 1.0) * max(*ratios, 1.0)

    def _steps(self, config: Config, estimate: _Estimate) -> int:
        """How many steps fit by an estimate."""
        found = self._small[_networks(config)]
        if not found:
            return 0
        return self._steps_in(config, replace(found[0][1], step_seconds=estimate.step_seconds))

    def _steps_in(self, config: Config, measured: Measurement) -> int:
        """How many steps fit: the wish where it does, else two digits of what does."""
        left = MARGIN * self._seconds - prepare_seconds(measured) - fixed_seconds(measured)
        steps = max(int(left / seconds_a_step_of(config, measured)), 0)
        if steps >= self._wanted.train.steps:
            return steps
        unit = 10 ** max(len(str(steps)) - 2, 0)
        return steps // unit * unit

    def _nothing_fits(self) -> ResourceLimit:
        budget = f"{self._seconds / 3600:.3g} h and {_gb(self._memory)}"
        if self._best is None or not math.isfinite(self._best[1].step_seconds):
            return ResourceLimit(
                f"plan: nothing fits into {budget}: {self._refusal or 'no estimate held'}"
            )
        config, estimate = self._best
        found = self._small[_networks(config)][0][1]
        steps = self._least()
        step = seconds_a_step_of(config, replace(found, step_seconds=estimate.step_seconds))
        needed = (prepare_seconds(found) + fixed_seconds(found) + steps * step) / MARGIN / 3600
        memory = estimate.host_bytes if self._device == "cpu" else estimate.device_held
        return ResourceLimit(
            f"plan: nothing fits into {budget}; the smallest thing considered, {shown(config)} for "
            f"{steps} steps, takes {needed:.2g} h and {_gb(memory / MARGIN)}: give it that, or a "
            "smaller data.shape or fewer channels"
        )


def along_line(batches: Sequence[int], values: Sequence[float], size: int) -> float:
    """A quantity at batch `size`, by what it was at one or two smaller ones.

    Along the line through both, which neither falls nor starts below zero; with one alone in
    proportion.
    """
    if len(batches) == 1:
        return values[0] * size / batches[0]
    (few, many), (low, high) = batches, values
    slope = max((high - low) / (many - few), 0.0)
    start = high - slope * many
    if start < 0.0:
        return high * size / many
    return start + slope * size


def shown(config: Config) -> str:
    """Shape, fold, batch and critic steps in one line."""
    parts = [" x ".join(map(str, config.data.shape))]
    if config.model.fold != (1, 1, 1):
        parts.append(f"fold {' x '.join(map(str, config.model.fold))}")
    parts.append(f"batch {config.train.batch_size}")
    if config.gan.variant != "cyclegan":
        parts.append(f"{config.gan.critic_steps} critic steps")
    return ", ".join(parts)


def free_memory(device: str) -> int:
    """Bytes this process could take without pushing others out.

    Args:
        device: cpu or cuda (the current one).

    Raises:
        DeviceError: the device does not say.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    try:
        facts = Path("/proc/meminfo").read_text()
        free = int(facts.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        raise DeviceError("memory: this system does not say what is free; give --memory") from None
    return min(free, _group_memory())


def _group_memory() -> float:
    """What the control group of a container leaves, infinite where there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        most = (folder / "memory.max").read_text().strip()
        return math.inf if most == "max" else int(most) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return math.inf


def _networks(config: Config) -> str:
    """What decides a step's cost beside batch size and number of critic updates."""
    data = config.data.model_dump(mode="json")
    return repr((data, config.model.model_dump(mode="json"), config.train.precision))


def _notes(measured: Measurement) -> list[str]:
    notes = []
    cores = os.cpu_count() or 1
    if measured.load > 0.5 * cores:
        notes.append(
            f"the machine was busy ({measured.load:.1f} processes on {cores} cores): an idle one is "
            "faster"
        )
    if not measured.steps:
        notes.append("one step was timed alone, the first, which is slower than those after it")
    return notes


def _gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
