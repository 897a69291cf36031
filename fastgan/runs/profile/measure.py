"""A few real steps of a configuration, timed, counted and traced."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastgan.config import Config
from fastgan.errors import ConfigError
from fastgan.gans import AdversarialGAN
from fastgan.guarded import typed
from fastgan.runs.probe_child import Clock, period_of
from fastgan.runs.profile.times import Times, copy_rate
from fastgan.runs.profile.trace import Given, traced
from fastgan.runs.profile.traffic import Counts, Traffic
from fastgan.runs.stand_in import stand_in
from fastgan.spans import annotated_operators, heard_by, span
from fastgan.train import describe
from fastgan.train.build import variant_of
from fastgan.train.device import repeatable, resolve
from fastgan.train.loop import Training
from fastgan.train.precision import resolve_precision
from fastgan.train.run_folder import RunFolder

__all__ = ["MEASURED", "TRACE", "Profile", "Row", "annotate", "profile", "training_steps"]

TRACE = "trace.json"
MEASURED = "measured"
"""The range around the steps that NVIDIA's profilers are to look at."""


@dataclass(frozen=True)
class Row:
    """One span of a step: what happens in it and in no other span inside it; means of a step."""

    name: str
    seconds: float
    calls: float
    """Operators; one of fastgan is one, whatever it launches."""
    bytes: float
    """As if each operator read its inputs and wrote its outputs once."""
    casts: float
    launches: float | None
    """Of kernels, by the CUDA runtime; None on the CPU."""
    waits: dict[str, float]
    """Operators, or calls of the CUDA runtime, for which the host waits for the device."""
    pinned: float
    """Copies to the device from pinned memory."""
    pageable: float
    """The same from memory that is not: the host waits for them."""


@dataclass(frozen=True)
class Profile:
    """What was found of a configuration."""

    device: str
    torch: str
    threads: int
    precision: str
    batch: int
    shape: tuple[int, ...]
    steps: list[float]
    """Seconds of each measured step."""
    volumes: int
    """Real volumes in a step."""
    rows: list[Row]
    copy_rate: float
    """Bytes a second that a copy reads and writes, measured beside."""
    without_penalty: float | None
    """Seconds of a step without the gradient penalty; None where it has none."""

    @property
    def seconds(self) -> float:
        """Of a step: the sum of its rows."""
        return sum(row.seconds for row in self.rows)

    @property
    def data_wait(self) -> float:
        """Share of a step in which the host waits for data."""
        waits = sum(row.seconds for row in self.rows if row.name.rpartition("/")[2] == "data")
        return waits / self.seconds

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"schema": "fastgan-profile/1"} | asdict(self) | {"data_wait": self.data_wait}


@typed("profile")
def profile(config: Config, out: Path, *, steps: int = 3, warm_up: int = 2) -> Profile:
    """Measure steps of `config`, from new weights, and write `trace.json` into `out`.

    Of files on the disk the largest stands for all, so that nothing has to be prepared.

    Args:
        config: as `fastgan train` would be given it; nothing of a run is touched.
        out: an existing folder.
        steps: measured, >= 1; as many more as a lazy penalty needs to come once.
        warm_up: before them, >= 1.

    Raises:
        ConfigError, BadFile and others: what the training itself would refuse.
        ResourceLimit: memory ran out.
    """
    with training_steps(config, warm_up) as training:
        clock, period = Clock(training.device), period_of(config)
        steps = -(-steps // period) * period
        before = copy_rate(training.device)
        times = Times(training.device)
        with heard_by(times):
            taken = [clock.time(training.advance)[1] for _ in range(steps)]
        seconds = {name: value / steps for name, value in times.seconds().items()}

        def one_of_each() -> None:
            for _ in range(period):
                training.advance()

        traffic = Traffic()
        seen = training.batches.count
        with traffic, heard_by(traffic):
            one_of_each()
        volumes = (training.batches.count - seen) // period
        found = traced(one_of_each, training.device, out / TRACE)
        shape = tuple(training.batches.peek(0, "profile").volumes.shape[1:])
        return Profile(
            device=str(training.device),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            precision=training.config.train.precision,
            batch=config.train.batch_size,
            shape=shape,
            steps=taken,
            volumes=volumes,
            rows=_rows(seconds, traffic.spans, found, period),
            copy_rate=max(before, copy_rate(training.device)),
            without_penalty=_without_penalty(training, clock, steps),
        )


@typed("profile")
def annotate(config: Config, *, steps: int = 3, warm_up: int = 2) -> None:
    """Make steps for a profiler of NVIDIA's: those measured are in the NVTX range `measured`.

    Inside it every span of a step and every operator is a range. Arguments and errors as of
    `profile`; nothing is measured or written here.

    Raises:
        ConfigError: the package nvtx is missing.
    """
    try:
        import nvtx  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "profile: ranges need nvtx; install it with pip install 'fastgan[profile]'"
        ) from error
    with training_steps(config, warm_up) as training, span(MEASURED), annotated_operators():
        for _ in range(steps):
            training.advance()
        # So that no kernel ends after the range does.
        Clock(training.device).now()


@contextlib.contextmanager
def training_steps(config: Config, warm_up: int) -> Iterator[Training]:
    """A training that has `warm_up` steps behind it and leaves nothing."""
    device = resolve(config.train.device)
    config = config.settled()
    # Spans are not seen in a graph.
    config.train.cuda_graph = "off"
    config.train.precision = resolve_precision(config.train.precision, device)
    dataset = stand_in(config).dataset
    record = describe(dataset)
    variant = variant_of(config, record)
    with (
        tempfile.TemporaryDirectory(prefix="fastgan-profile-") as folder,
        repeatable(config.train.deterministic),
    ):
        run = RunFolder.create(Path(folder), config, record)
        training = Training(variant, dataset, config, run, device)
        try:
            for _ in range(warm_up):
                training.advance()
            # As most steps are: metrics are computed for those alone that are logged.
            variant.measured = False
            yield training
            # What the steps have said of NaN and infinity, none of which they may have met.
            training.watch.settle()
        finally:
            training.batches.close()


def _rows(
    seconds: dict[str, float], counted: dict[str, Counts], found: Given | None, period: int
) -> list[Row]:
    """A row for each span, in the order in which they were met."""
    rows = []
    for name in dict.fromkeys([*seconds, *counted]):
        counts = counted.get(name, Counts())
        waits = Counter(counts.waits)
        if found is not None:
            # What the runtime was asked for says more than the operators' names.
            waits = Counter({"waits of the CUDA runtime": found.waits[name]})
        rows.append(
            Row(
                name=name,
                seconds=seconds.get(name, 0.0),
                calls=counts.calls / period,
                bytes=counts.bytes / period,
                casts=counts.casts / period,
                launches=None if found is None else found.launches[name] / period,
                waits={key: n / period for key, n in waits.items() if n},
                pinned=counts.pinned / period,
                pageable=counts.pageable / period,
            )
        )
    return rows


def _without_penalty(training: Training, clock: Clock, steps: int) -> float | None:
    """Seconds of a step whose critic goes unpenalised, the median."""
    gan = training.variant
    if not isinstance(gan, AdversarialGAN) or gan.penalty.kind == "none":
        return None
    penalty = gan.penalty
    gan.penalty = replace(penalty, kind="none", one_sided=False)
    try:
        return statistics.median(clock.time(training.advance)[1] for _ in range(steps + 1))
    finally:
        gan.penalty = penalty
