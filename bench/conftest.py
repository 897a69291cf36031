"""One setting for all providers: freed memory is kept, or page faults drown the kernels.

With --default-heap it is not, as in a process that sets nothing. Medians go to
bench/results/<device>/benchmarks.json, or to benchmarks-default.json, by group and provider.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from fastgan.cli.process import keep_freed_memory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--default-heap", action="store_true", help="give freed memory back")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("default_heap"):
        keep_freed_memory()


def heap(config: pytest.Config) -> str:
    return "default" if config.getoption("default_heap") else "kept"


def pytest_report_header(config: pytest.Config) -> str:
    threads = torch.get_num_threads()
    return f"torch {torch.__version__}, {threads} threads, heap: {heap(config)}"


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
        "heap": heap(session.config),
        "load after": os.getloadavg()[0],
        "milliseconds": groups,
    }
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    name = f"benchmarks{'' if heap(session.config) == 'kept' else '-default'}.json"
    path = Path(__file__).parent / "results" / f"cpu-{capability}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
