"""Times go into a file, and an operator that lost ground since an earlier one is found.

The file is of pytest-benchmark's form, which other tools read. What is compared is not milliseconds
but each implementation's ratio to the reference that ran beside it: a slower machine, or one that
others keep busy, slows both.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import fastgan
from fastgan.errors import BadFile
from fastgan.guarded import read_plain
from fastgan.ops.proof.timing import Time

__all__ = ["AGAIN", "Change", "changes", "read_baseline", "report", "unlike"]

AGAIN = 2
"""What lost ground is measured so often again: a disturbance passes, a slower kernel stays."""

_REFERENCE = "reference"
_LARGEST = 2**24


class Change(NamedTuple):
    """An implementation's pass against the baseline.

    Both ratios, by medians and by shortest times, are over the reference's.
    """

    key: str
    before: tuple[float, float]
    now: tuple[float, float] | None  # None: it is not there any more

    @property
    def share(self) -> float:
        """How much of the old ratio is kept, by whichever of the two shows more; 0: gone."""
        if self.now is None:
            return 0.0
        return max(now / before for now, before in zip(self.now, self.before, strict=True))


def report(times: Iterable[Time], device: torch.device) -> dict[str, Any]:
    """The file's content, of pytest-benchmark's form with ratios in `extra_info`."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "machine_info": _machine(device),
        "commit_info": {},
        "benchmarks": [_entry(time) for time in times],
        "datetime": now.isoformat(),
        "version": f"fastgan {fastgan.__version__}",
    }


def read_baseline(path: Path) -> dict[str, Any]:
    """A file that `report` made.

    Raises:
        BadFile: missing, no JSON, or without what is compared.
    """
    try:
        found = json.loads(read_plain(path, _LARGEST, follow=True))
        ratios = _ratios(found)
        whole = isinstance(found["machine_info"], dict) and bool(ratios)
        whole = whole and all(0 < n < math.inf for both in ratios.values() for n in both)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise BadFile(f"{path}: no times of `fastgan bench --out`: write the baseline with it")
    content: dict[str, Any] = found
    return content


def unlike(baseline: dict[str, Any], device: torch.device) -> str:
    """What of the baseline's machine, software and threads is otherwise now, as text."""
    old, new = baseline.get("machine_info", {}), _machine(device)
    keys = ("processor", "machine", "torch", "threads")
    return ", ".join(
        f"{key} {str(old.get(key))[:60]}, here {new[key]}"
        for key in keys
        if old.get(key) != new[key]
    )


def changes(
    baseline: dict[str, Any],
    times: Collection[Time],
    again: Callable[[set[str]], Iterator[Time]],
    tolerance: float,
) -> list[Change]:
    """Every pass of the baseline beside what it is now.

    Args:
        baseline: of `read_baseline`.
        times: of now.
        again: measures the operators of these names anew.
        tolerance: share of a ratio that may be lost; what lost more is measured again, and the
            best counts.
    """
    before, runs = _ratios(baseline), list(times)
    for _ in range(AGAIN):
        found = _against(before, runs)
        slow = {c.key.split()[0] for c in found if c.now is not None and c.share < 1 - tolerance}
        if not slow:
            break
        runs += again(slow)
    return _against(before, runs)


def _against(before: dict[str, tuple[float, float]], runs: Iterable[Time]) -> list[Change]:
    """The best median ratio of all runs, and the ratio of the shortest times among all of them."""
    ratio: dict[str, float] = {}
    least: dict[str, float] = {}
    for time in runs:
        key = _key(time)
        ratio[key] = max(time.ratio, ratio.get(key, 0.0))
        least[key] = min(*time.seconds, least.get(key, math.inf))
    found = []
    for key, ratios in before.items():
        now = None
        if key in ratio:
            reference = f"{key.rpartition(' ')[0]} {_REFERENCE}"
            now = ratio[key], least[reference] / least[key]
        found.append(Change(key, ratios, now))
    return found


def _key(time: Time) -> str:
    return f"{time.op} {time.what} {time.name}"


def _ratios(content: dict[str, Any]) -> dict[str, tuple[float, float]]:
    found = {}
    for entry in content["benchmarks"]:
        info = entry["extra_info"]
        if info["implementation"] != _REFERENCE:
            found[str(entry["name"])] = float(info["ratio"]), float(info["ratio_of_minima"])
    return found


def _entry(time: Time) -> dict[str, Any]:
    return {
        "group": f"{time.op} {time.what}",
        "name": _key(time),
        "fullname": _key(time),
        "params": None,
        "param": None,
        "extra_info": {
            "implementation": time.name,
            "ratio": time.ratio,
            "ratio_of_minima": time.least_ratio,
        },
        "options": {"timer": "perf_counter", "warmup": True},
        "stats": _statistics(sorted(time.seconds)),
    }


def _statistics(seconds: list[float]) -> dict[str, Any]:
    """Of times in ascending order, by pytest-benchmark's names."""
    many = len(seconds) > 1
    low, _, high = statistics.quantiles(seconds) if many else seconds * 3
    mean, spread = statistics.fmean(seconds), statistics.stdev(seconds) if many else 0.0
    reach = 1.5 * (high - low)
    inside = [s for s in seconds if low - reach <= s <= high + reach]
    far = sum(abs(s - mean) > spread for s in seconds)
    return {
        "min": seconds[0],
        "max": seconds[-1],
        "mean": mean,
        "stddev": spread,
        "median": statistics.median(seconds),
        "q1": low,
        "q3": high,
        "iqr": high - low,
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "stddev_outliers": far,
        "iqr_outliers": len(seconds) - len(inside),
        "outliers": f"{far};{len(seconds) - len(inside)}",
        "ops": 1 / mean,
        "total": sum(seconds),
        "rounds": len(seconds),
        "iterations": 1,
        "data": seconds,
    }


def _machine(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "node": "",
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": torch.cuda.get_device_name(device)
        if on_gpu
        else torch.backends.cpu.get_cpu_capability(),
        "cpu": {"count": os.cpu_count()},
        "python_version": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
