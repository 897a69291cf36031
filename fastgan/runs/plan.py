"""A plan: what a configuration costs on this machine, and one that ends within a budget."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastgan import config as configuration
from fastgan.config import Config
from fastgan.errors import ConfigError, ResourceLimit
from fastgan.runs.estimates import Estimate, Estimates, Measure, shown
from fastgan.runs.free_memory import free_memory
from fastgan.runs.prediction import (
    Prediction,
    fixed_seconds,
    predict,
    prepare_seconds,
    seconds_a_step,
)
from fastgan.runs.probe import Measurement, measure
from fastgan.runs.trades import LEAST_STEPS, given_up, trades_for

__all__ = ["Plan", "check_budget", "plan_for"]

MARGIN = 0.9
"""Of the time and the memory named, what a plan uses: predictions are not exact."""
ATTEMPTS = 6
"""Configurations measured as a whole before giving up."""
BUSY = 0.5
"""Processes per core that wanted to run from which on times are too long to be believed."""


@dataclass(frozen=True)
class Budget:
    """What a training may take.

    Attributes:
        hours: of training, reading the data included.
        memory: bytes on the device that trains.
        host: bytes of the process.
        device: cpu or cuda.
    """

    hours: float
    memory: int
    host: int
    device: str

    @property
    def seconds(self) -> float:
        """What a plan uses of the hours."""
        return MARGIN * 3600.0 * self.hours

    def holds(self, estimate: Estimate) -> bool:
        """Whether the memory suffices."""
        if estimate.host_bytes > MARGIN * self.host:
            return False
        return self.device == "cpu" or estimate.device_held <= MARGIN * self.memory

    def __str__(self) -> str:
        return f"{self.hours:.3g} h and {_gb(self.memory)}"


@dataclass(frozen=True)
class Plan:
    """A configuration that fits, what it takes, and what it gave up.

    Attributes:
        config: to be trained.
        measured: of this very configuration.
        prediction: what training it and generating volumes take.
        traded: one sentence for each thing given up.
        notes: what a person should know.
        budget: what it fits into.
    """

    config: Config
    measured: Measurement
    prediction: Prediction
    traded: tuple[str, ...]
    notes: tuple[str, ...]
    budget: Budget

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "config": self.config.model_dump(mode="json"),
            "prediction": self.prediction.as_json(),
            "traded": list(self.traded),
            "notes": list(self.notes),
            "hours": self.budget.hours,
            "memory": self.budget.memory,
            "device": self.measured.device,
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
        config: what one would like to train; left as it is.
        hours: of training, reading the data included; > 0.
        memory: bytes on the device that trains; None: what it has free.
        count: volumes whose generation is predicted, >= 1.
        keep: dotted keys that stay as they are.
        progress: called with a line before each trial.
        measured_by: measures a configuration in place of `probe.measure`.

    Raises:
        ConfigError: an argument that cannot be, a device that is not there, or a configuration
            that `fastgan train` would refuse.
        BadFile and its kinds: data that cannot be used.
        ResourceLimit: nothing fits; says what the smallest thing would take.
    """
    check_budget(hours, memory)
    _check(count, keep)

    from fastgan.train.device import resolve
    from fastgan.train.precision import resolve_precision

    device = resolve(config.train.device)
    free = free_memory(device.type)
    most = free if memory is None else memory
    host = most if device.type == "cpu" else free_memory("cpu")
    budget = Budget(hours, most, host, device.type)
    # CUDA maps far more than it uses, so there the limit would hit the driver.
    limit = host if device.type == "cpu" else None
    wanted = config.model_copy(deep=True)
    narrow = wanted.train.precision == "float32" and "train.precision" not in keep
    if narrow and resolve_precision("auto", device) == "bfloat16":
        wanted.train.precision = "auto"
    tried_by = measured_by or (lambda candidate: measure(candidate, memory=limit))
    plan = _Planner(wanted, budget, count, keep, tried_by, progress).plan()
    # Checked as a whole, as a file would be.
    configuration.parse(plan.config.model_dump(mode="json"), where="plan")
    notes = list(plan.notes)
    if most > free:
        notes.append(f"{_gb(most)} of memory are planned for, {_gb(free)} are free now")
    return replace(plan, traded=tuple(given_up(config, plan.config)), notes=tuple(notes))


def check_budget(hours: float, memory: int | None) -> None:
    """Raise ConfigError for hours or bytes that cannot be."""
    if not (math.isfinite(hours) and hours > 0.0):
        raise ConfigError(f"hours: must be a number above 0, got {hours:g}")
    if memory is not None and memory < 1:
        raise ConfigError(f"memory: must be above 0, got {memory} bytes")


def _check(count: int, keep: Sequence[str]) -> None:
    if count < 1:
        raise ConfigError(f"count: must be at least 1, got {count}")
    known = configuration.known_keys()
    for key in keep:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "a dotted key, such as data.shape"
            raise ConfigError(f"keep: unknown key {key!r}; {hint}")


class _Planner:
    """Looks for a configuration that fits: by estimates, and then by measuring what was chosen."""

    def __init__(
        self,
        wanted: Config,
        budget: Budget,
        count: int,
        keep: Sequence[str],
        measured_by: Measure,
        progress: Callable[[str], None],
    ) -> None:
        self._wanted, self._budget, self._count = wanted, budget, count
        self._measure, self._progress = measured_by, progress
        self._estimates = Estimates(measured_by, progress)
        self._keeps_steps = "train.steps" in keep
        self._trades = [t for t in trades_for(budget.device) if not set(t.keys) & set(keep)]

    def plan(self) -> Plan:
        """The configuration that is chosen again after it was measured."""
        known: dict[str, Measurement] = {}
        chosen = self._choose()
        for _ in range(ATTEMPTS):
            key = configuration.dump(chosen)
            if key in known:
                return self._finished(chosen, known[key])
            self._progress(f"measuring {shown(chosen)}")
            try:
                known[key] = self._measure(chosen)
                self._estimates.correct(chosen, known[key])
            except ResourceLimit as error:
                limits = (MARGIN * self._budget.host, MARGIN * self._budget.memory)
                self._estimates.refuse(chosen, *limits, str(error))
            chosen = self._choose()
        raise ResourceLimit(
            f"plan: what fits into {self._budget} was not found in {ATTEMPTS} trials, as trials of "
            f"one configuration differ; {self._estimates.refusal or 'try on a quieter machine'}"
        )

    def _finished(self, chosen: Config, measured: Measurement) -> Plan:
        fit = max(self._steps_in(chosen, measured), self._least())
        chosen.train.steps = min(self._wanted.train.steps, fit)
        prediction = predict(chosen, measured, count=self._count)
        notes = _notes(measured)
        if prediction.train_seconds > 3600.0 * self._budget.hours:
            notes.append(
                f"as busy as that it takes longer than {self._budget.hours:g} h; it should not on "
                "the machine alone, so stop other work, or plan again later"
            )
        return Plan(chosen, measured, prediction, (), tuple(notes), self._budget)

    def _choose(self) -> Config:
        """The wish with as few trades as the estimates say are needed."""
        config = self._wanted.model_copy(deep=True)
        while (found := self._next_trade(config)) is not None:
            config = found
        estimate = self._estimates.of(config)
        in_time = self._steps(config, estimate) >= self._least()
        if self._budget.holds(estimate) and (in_time or self._fits_alone(config, estimate)):
            return config
        raise self._nothing_fits(config, estimate)

    def _next_trade(self, config: Config) -> Config | None:
        """The config changed by the first trade that is needed, helps and can be made."""
        estimate = self._estimates.of(config)
        holds, steps = self._budget.holds(estimate), self._steps(config, estimate)
        for trade in self._trades:
            late = trade.below > 0 and steps < self._least(trade.below)
            needed = late or (trade.saves_memory and not holds)
            # Where not even the smallest batch runs, only other networks can help.
            if not needed or not (estimate.finite or trade.networks):
                continue
            changed = config.model_copy(deep=True)
            if trade.change(changed):
                return changed
        return None

    def _least(self, below: int = LEAST_STEPS) -> int:
        """Steps that must fit, never more than are wished for."""
        wish: int = self._wanted.train.steps
        return wish if self._keeps_steps else min(wish, below)

    def _steps(self, config: Config, estimate: Estimate) -> int:
        """How many steps fit by an estimate."""
        trial = self._estimates.trial(config)
        if trial is None:
            return 0
        return self._steps_in(config, replace(trial, step_seconds=estimate.step_seconds))

    def _fits_alone(self, config: Config, estimate: Estimate) -> bool:
        """Whether only other work on this machine keeps the least number of steps from fitting."""
        trial = self._estimates.trial(config)
        if trial is None or not _busy(trial):
            return False
        had = min(trial.cores / (os.cpu_count() or 1), 1.0)
        alone = replace(estimate, step_seconds=had * estimate.step_seconds)
        return self._steps(config, alone) >= self._least()

    def _steps_in(self, config: Config, measured: Measurement) -> int:
        """How many steps fit: the wish where it does, else two digits of what does."""
        left = self._budget.seconds - prepare_seconds(measured) - fixed_seconds(measured)
        steps = max(int(left / seconds_a_step(config, measured)), 0)
        if steps >= self._wanted.train.steps:
            return steps
        unit: int = 10 ** max(len(str(steps)) - 2, 0)
        return steps // unit * unit

    def _nothing_fits(self, config: Config, estimate: Estimate) -> ResourceLimit:
        trial = self._estimates.trial(config)
        if trial is None:
            return ResourceLimit(
                f"plan: nothing fits into {self._budget}; of {shown(config)}, the smallest thing "
                f"considered: {self._estimates.refusal}"
            )
        steps = self._least()
        step = seconds_a_step(config, replace(trial, step_seconds=estimate.step_seconds))
        seconds = prepare_seconds(trial) + fixed_seconds(trial) + steps * step
        memory = estimate.host_bytes if self._budget.device == "cpu" else estimate.device_held
        return ResourceLimit(
            f"plan: nothing fits into {self._budget}; the smallest thing considered, "
            f"{shown(config)} for {steps} steps, takes {seconds / MARGIN / 3600:.2g} h and "
            f"{_gb(memory / MARGIN)}: "
            + "; ".join(["give it that, or fewer channels", *_busy(trial)])
        )


def _notes(measured: Measurement) -> list[str]:
    notes = _busy(measured)
    if not measured.steps:
        notes.append("one step was timed alone, the first, which is slower than those after it")
    return notes


def _busy(measured: Measurement) -> list[str]:
    cores = os.cpu_count() or 1
    if measured.load <= BUSY * cores:
        return []
    return [
        f"the machine was busy, {measured.load:.1f} processes wanted its {cores} cores and the "
        f"trial had {measured.cores:.1f} of them: times are too long by that"
    ]


def _gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"
