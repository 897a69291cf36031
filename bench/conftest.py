"""One setting for all providers: freed memory is kept, or page faults drown the kernels.

Medians go to bench/results/<device>/benchmarks.json, by group and provider.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fastgan.cli.process import keep_freed_memory


def pytest_configure() -> None:
    keep_freed_memory()


def pytest_report_header() -> str:
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory kept"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    done = getattr(session.config, "_benchmarksession", None)
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for run in done.benchmarks if done else ():
        if not run.has_error:
            times = {"median": 1e3 * run.stats.median, "min": 1e3 * run.stats.min}
            groups.setdefault(run.group, {})[run.params["provider"]] = times
    if not groups:
        return
    report = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "heap": "kept",
        "load after": os.getloadavg()[0],
        "milliseconds": groups,
    }
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    path = Path(__file__).parent / "results" / f"cpu-{capability}" / "benchmarks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
