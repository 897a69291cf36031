"""What a configuration will probably cost, from trials of ones like it with small batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fastgan.config import Config
from fastgan.errors import ResourceLimit
from fastgan.runs.probe import Measurement

__all__ = ["Estimate", "Estimates", "Measure", "along_line", "bytes_of_volume", "shown"]

Measure = Callable[[Config], Measurement]


@dataclass(frozen=True)
class Estimate:
    """Of one configuration; infinite where not even its smallest batch runs."""

    step_seconds: float
    host_bytes: float
    device_held: float

    @property
    def finite(self) -> bool:
        """Whether the networks run at all."""
        return math.isfinite(self.step_seconds)


@dataclass
class _Networks:
    """What is known of networks of one size, on data of one kind."""

    trials: list[tuple[int, Measurement]]
    """Batch size and what was measured, with one update of the critic."""
    slower: float = 1.0
    larger: float = 1.0
    """How far larger batches were above the line through these."""


class Estimates:
    """Networks of one size are tried with two small batches; time and memory grow along a line.

    Args:
        measure: tries one configuration.
        progress: told before each trial.
    """

    def __init__(self, measure: Measure, progress: Callable[[str], None]) -> None:
        self._measure, self._progress = measure, progress
        self._known: dict[str, _Networks] = {}
        self.refusal = ""
        """Why the last trial that did not run did not."""

    def of(self, config: Config) -> Estimate:
        """The estimate; tries these networks where that was not done yet."""
        known = self._networks(config)
        if not known.trials:
            return Estimate(math.inf, math.inf, math.inf)
        batches = [size for size, _ in known.trials]
        found = [measured for _, measured in known.trials]

        # Parts of a batch come one after the other, and hold memory one at a time.
        batch = config.train.batch_size
        part = min(config.train.micro_batch or batch, batch)
        whole = (batch - part) * bytes_of_volume(config)

        def line(values: Sequence[float]) -> float:
            return along_line(batches, values, part)

        # A trial updates its critic once.
        more = config.gan.critic_steps - 1
        step = line([m.step_seconds for m in found]) + more * line(
            [m.critic_seconds for m in found]
        )
        held = line([m.device_held for m in found])
        return Estimate(
            known.slower * step * batch / part,
            known.larger * (line([m.host_bytes for m in found]) + whole),
            known.larger * (held + whole) if held else 0.0,
        )

    def trial(self, config: Config) -> Measurement | None:
        """What was measured of these networks with their smallest batch, if they ran."""
        trials = self._networks(config).trials
        return trials[0][1] if trials else None

    def correct(self, config: Config, measured: Measurement) -> None:
        """Learn from a configuration that was measured as it is: estimates never sink by it."""
        known, estimate = self._networks(config), self.of(config)
        known.slower *= max(measured.step_seconds / estimate.step_seconds, 1.0)
        ratios = [measured.host_bytes / estimate.host_bytes]
        if estimate.device_held:
            ratios.append(measured.device_held / estimate.device_held)
        known.larger *= max(*ratios, 1.0)

    def refuse(self, config: Config, host: float, device: float, reason: str) -> None:
        """Learn that a configuration did not run: its memory is estimated above both limits."""
        known, estimate = self._networks(config), self.of(config)
        beyond = [host / estimate.host_bytes]
        if estimate.device_held:
            beyond.append(device / estimate.device_held)
        known.larger *= max(1.01 * max(beyond), 1.0)
        self.refusal = reason

    def _networks(self, config: Config) -> _Networks:
        key = repr((config.data, config.model, config.train.precision, config.train.recompute))
        if key not in self._known:
            self._known[key] = _Networks(list(self._trials(config)))
        return self._known[key]

    def _trials(self, config: Config) -> Iterator[tuple[int, Measurement]]:
        group = max(config.model.minibatch_stddev, 1)
        sizes = sorted({min(size, config.train.batch_size) for size in (2 * group, 4 * group)})
        for size in sizes:
            small = config.model_copy(deep=True)
            small.train.batch_size, small.train.micro_batch = size, None
            if not small.translates:
                small.gan.critic_steps = 1
            self._progress(f"measuring {shown(small)}")
            try:
                found = self._measure(small)
            except ResourceLimit as error:
                self.refusal = str(error)
                return
            yield size, found
            if not found.steps:
                # Too slow for a second one.
                return


def bytes_of_volume(config: Config) -> int:
    """Of a volume that waits for its part of the batch; of two domains with their translations."""
    return 4 * math.prod(config.data.shape) * (4 if config.translates else 1)


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
    batch, part = config.train.batch_size, config.train.micro_batch
    parts.append(f"batch {batch}{f' in parts of {part}' if part and part < batch else ''}")
    if config.train.recompute:
        parts.append("recomputed")
    if not config.translates:
        updates = config.gan.critic_steps
        parts.append(f"{updates} critic step{'' if updates == 1 else 's'}")
    return ", ".join(parts)
