"""The child of `fastgan.runs.probe`: `python -m fastgan.runs.probe_child`, its task on stdin."""

from __future__ import annotations

import io
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan.config import Config, parse
from fastgan.data import save_volume
from fastgan.data.normalise import denormalise
from fastgan.errors import FastganError
from fastgan.runs.stand_in import StandIn, stand_in
from fastgan.train import describe
from fastgan.train.build import variant_of
from fastgan.train.device import peak_memory, repeatable, resolve
from fastgan.train.loop import Training
from fastgan.train.page import write_page
from fastgan.train.parts import ran_out_of_memory
from fastgan.train.precision import resolve_precision
from fastgan.train.progress import Progress
from fastgan.train.run_folder import RunFolder

WARM, TIMED = 2, 3
LEAST_SECONDS = 1.0
"""Short steps are timed for as long as this, so that one hiccup does not decide."""
GENERATED = 2


def main() -> None:
    """Answer one task."""
    task = json.load(sys.stdin)
    answer = Path(task["answer"])
    if task["memory"] is not None:
        # Of what the process allocates, so that an error comes before the system ends others.
        resource.setrlimit(resource.RLIMIT_DATA, (task["memory"], task["memory"]))
    try:
        config = parse(task["config"])
        content = probe(config, Path(task["folder"]), task["patience"])
    except FastganError as error:
        content = {"error": type(error).__name__, "text": str(error)}
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        content = {"error": "ResourceLimit", "text": "a trial of a few steps ran out of memory"}
    answer.write_text(json.dumps(content))


def probe(config: Config, folder: Path, patience: float) -> dict[str, Any]:
    """Fields of a `Measurement`, without the load."""
    device = resolve(config.train.device)
    config.train.precision = resolve_precision(config.train.precision, device)
    clock = Clock(device)
    data, open_seconds = clock.time(lambda: stand_in(config))
    dataset = data.dataset
    record = describe(dataset)
    variant = variant_of(config, record)
    run = RunFolder.create(folder / "runs", config, record)
    # torch may use the threads it likes; what a plan is for is the machine as it is.
    with repeatable(config.train.deterministic):
        training = Training(variant, dataset, config, run, device)
        _fill_pools(variant)
        training.save()
        start, used = clock.now(), time.process_time()
        steps, step_seconds = _steps(training, clock, patience)
        cores = (time.process_time() - used) / (clock.now() - start)
        critic_seconds = _critic_seconds(training, clock) if steps else 0.0
        progress = Progress(1, stream=io.StringIO())
        _, picture_seconds = clock.time(lambda: training.draw_samples(progress))
        # For its memory; a training writes it in a hundredth of the time at most.
        write_page(run.path)
        training.steps_done += 1
        _, save_seconds = clock.time(training.save)
        training.batches.close()
    written, generate_seconds = _generate(variant, dataset, clock, folder)
    held = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return {
        "device": str(device),
        "steps": steps,
        "cores": cores,
        "step_seconds": step_seconds,
        "critic_seconds": critic_seconds or step_seconds / (config.gan.critic_steps + 1),
        "save_seconds": save_seconds,
        "picture_seconds": picture_seconds,
        "generate_seconds": generate_seconds,
        "open_seconds": open_seconds,
        "host_bytes": peak_memory(torch.device("cpu")),
        "device_bytes": peak_memory(device) if device.type == "cuda" else 0,
        "device_held": held,
        "checkpoint_bytes": _size(max(run.path.glob("ckpt-*"))),
        "picture_bytes": _size(run.path / "samples"),
        "written_bytes": written,
        **_facts(data),
    }


class Clock:
    """Times work on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        """Seconds, after the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def time(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """What `work` returns, and how long it took."""
        start = self.now()
        found = work()
        return found, self.now() - start


def period_of(config: Config) -> int:
    """Steps in which each kind of step comes once: a lazy penalty makes them differ."""
    gan = config.gan
    return int(gan.penalty_interval // gcd(gan.penalty_interval, gan.critic_steps))


def _steps(training: Training, clock: Clock, patience: float) -> tuple[int, float]:
    """How many steps were timed, and what one takes: the median of whole periods."""
    period = period_of(training.config)
    _, cold = clock.time(training.advance)
    if cold > patience:
        return 0, cold
    # As most steps are: metrics are computed for those alone that are logged.
    training.variant.measured = False
    for _ in range(WARM - 1):
        training.advance()
    periods: list[float] = []
    start = clock.now()
    while len(periods) < TIMED or clock.now() - start < LEAST_SECONDS:
        began = clock.now()
        for _ in range(period):
            training.advance()
        periods.append((clock.now() - began) / period)
    training.metrics()
    return len(periods) * period, statistics.median(periods)


def _critic_seconds(training: Training, clock: Clock) -> float:
    """Seconds of one update of the critic, penalty included as often as it is."""
    variant: Any = training.variant
    phases = variant.phases
    taken: list[float] = []

    def watched(*arguments: Any) -> Iterator[Any]:
        for phase in phases(*arguments):
            start = clock.now()
            yield phase
            if phase.name == "critic":
                taken.append(clock.now() - start)

    variant.phases = watched
    try:
        for _ in range(2):
            training.advance()
    finally:
        del variant.phases
    return statistics.mean(taken)


def _fill_pools(variant: Any) -> None:
    """Touch every buffer: the pool of a cyclegan fills over the steps and needs its memory then."""
    for module in variant.modules.values():
        for buffer in module.buffers():
            buffer.copy_(buffer.clone())


def _generate(variant: Any, dataset: Any, clock: Clock, folder: Path) -> tuple[int, float]:
    """Bytes of a generated file and seconds to make and write it; a translator has none."""
    if "generator" not in variant.modules:
        return 0, 0.0
    path = folder / "volume.nii.gz"
    rng = np.random.default_rng(0)

    def write() -> None:
        volume = variant.sample(1, None, rng)[0].float().cpu().numpy()
        values = denormalise(volume, dataset.normalisation)
        save_volume(path, values, np.diag([*dataset.spacing, 1.0]))
        path.rename(folder / "written.nii.gz")

    times = [clock.time(write)[1] for _ in range(GENERATED)]
    return (folder / "written.nii.gz").stat().st_size, min(times)


def _facts(data: StandIn) -> dict[str, Any]:
    return {
        "stored_bytes": data.stored_bytes,
        "volumes": data.volumes,
        "heldout": data.heldout,
        "prepared": data.prepared,
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
