"""What every check is given, its clock, and when a result is too far off to have a time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

Run = Callable[[], Any]
Row = dict[str, Any]


class Setting(NamedTuple):
    """Where and how a check runs."""

    device: torch.device
    quick: bool  # tiny sizes: every line runs, no figure is worth anything
    only: str | None = None  # of the implementations
    out: Path = Path(".")  # folder of files beside the rows


class Clock:
    """Median milliseconds of a call on a device, each after the L2 cache was flushed.

    Args:
        device: where.
        quick: one round of everything.
        budget: seconds after which a run that was timed at least three times is timed no more; of
            one that takes longer by itself, the first time stands.
    """

    def __init__(self, device: torch.device, quick: bool = False, budget: float = 2.0) -> None:
        self.device, self.budget = device, budget
        self.rounds, self.warm = (1, 1) if quick else (15, 2)
        # Larger than any L2 cache; random, because zeros can be compressed.
        self.flush = torch.randn(2**16 if quick else 2**26, device=device)

    def __call__(self, runs: dict[str, Run]) -> dict[str, float]:
        """Medians by name; the runs take turns, so that a disturbance meets all of them."""
        found: dict[str, list[float]] = {name: [] for name in runs}
        soon = dict(runs)
        for name, run in runs.items():
            for _ in range(self.warm):
                if (ms := self._once(run)) > 1e3 * self.budget:
                    found[name].append(ms)
                    del soon[name]
                    break
        start = time.monotonic()
        for done in range(self.rounds):
            if done >= 3 and time.monotonic() - start > self.budget * len(runs):
                break
            for name, run in soon.items():
                self.flush.mul_(1.0001)
                found[name].append(self._once(run))
        return {name: statistics.median(times) for name, times in found.items()}

    def _once(self, run: Run) -> float:
        if self.device.type == "cpu":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def copy_bandwidth(self) -> float:
        """Bytes a second that a plain copy reads and writes."""
        small = self.device.type == "cpu"
        source = torch.randn(2**16 if small else 2**28, device=self.device)
        target = torch.empty_like(source)
        ms = self({"copy": lambda: target.copy_(source)})["copy"]
        return 2 * source.nbytes / (1e-3 * ms)


def forced(run: Run, name: str) -> Run:
    """`run` with an implementation forced."""

    from fastgan import ops  # not above: the machine is asked before anything is built

    def call() -> Any:
        with ops.implementation(name):
            return run()

    return call


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest |found - expected| / |expected| in the Euclidean norm; NaN where there is one.

    Not the largest element: among 10^8 some lie at an activation's kink, where rounding decides.
    """
    worst = 0.0
    for f, e in zip(found, expected, strict=True):
        # Vectors in pieces: a float32 copy of a whole volume may not fit beside it.
        squares = torch.zeros(2, dtype=torch.float64, device=e.device)
        for a, b in zip(_pieces(f), _pieces(e), strict=True):
            b = b.double()
            squares += torch.stack([(a.double() - b).square().sum(), b.square().sum()])
        off, size = squares.tolist()
        error = (off / size) ** 0.5 if size > 0 else float("inf" if off > 0 else 0)
        if not error <= worst:
            worst = error
        if math.isnan(error):
            break
    return worst


def _pieces(t: Tensor) -> Sequence[Tensor]:
    return t.detach().reshape(-1).split(1 << 26) if t.dim() < 2 else t.detach().split(1)
