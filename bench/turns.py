"""Providers that take turns under one clock, and what their figures depend on."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch

__all__ = ["Clock", "Times", "folder_of", "in_turns", "setting"]

Clock = Callable[[], float]
Times = dict[str, dict[str, float]]


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    clock: Clock = time.perf_counter,
    warm: int = 0,
    around: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Times:
    """Medians and minima in milliseconds, and of how many rounds each.

    A disturbance of the machine meets all providers. The median of an even count is the mean of
    the two in the middle.

    Args:
        runs: name of a provider -> what is timed.
        rounds: how often each is.
        clock: seconds.
        warm: runs before each that is timed, within the turn: what the providers before left in
            the caches is then no part of the time.
        around: entered, by name, outside the time that is taken.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            with around(name):
                for _ in range(warm):
                    run()
                start = clock()
                run()
                seconds[name].append(clock() - start)
    return {
        name: {"median": 1e3 * median(s), "min": 1e3 * min(s), "rounds": len(s)}
        for name, s in seconds.items()
    }


def setting() -> dict[str, Any]:
    """What a figure depends on; load is that of the minute before."""
    return {
        "machine": _processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "not set"),
        "load before": os.getloadavg()[0],
    }


def folder_of(out: Path) -> Path:
    """The folder of this device's results, made where it is missing."""
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    folder = out / f"cpu-{capability}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else "unknown"
