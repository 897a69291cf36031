"""One setting for all providers: freed memory is kept, or page faults drown the kernels.

With --default-heap it is not, as in a process that sets nothing. Medians and minima go to
bench/results/<device>/benchmarks.json, or to benchmarks-default.json, by group and provider.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from turns import Times, folder_of, setting

from fastgan.cli.process import keep_freed_memory

GROUPS = pytest.StashKey[dict[str, Times]]()
FACTS = pytest.StashKey[dict[str, object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--default-heap", action="store_true", help="give freed memory back")
    parser.addoption("--rounds", type=int, help="instead of each file's own number")
    parser.addoption("--results", type=Path, default=Path(__file__).parent / "results")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("default_heap"):
        keep_freed_memory()
    config.stash[GROUPS] = {}
    config.stash[FACTS] = setting() | {"heap": heap(config)}


def heap(config: pytest.Config) -> str:
    return "default" if config.getoption("default_heap") else "kept"


def pytest_report_header(config: pytest.Config) -> str:
    return ", ".join(f"{name}: {fact}" for name, fact in config.stash[FACTS].items())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """The number of rounds: that of the file, or --rounds."""
    return lambda usual: request.config.getoption("rounds") or usual


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[str, Times], None]:
    """Takes the times of a group, by provider."""
    return request.config.stash[GROUPS].__setitem__


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for group, times in terminalreporter.config.stash[GROUPS].items():
        terminalreporter.write_line(f"{group}: milliseconds, median, min, rounds")
        for provider, t in sorted(times.items(), key=lambda item: item[1]["median"]):
            line = f"    {provider:22}{t['median']:9.2f}{t['min']:9.2f}{t['rounds']:5}"
            terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    groups = session.config.stash[GROUPS]
    if not groups:
        return
    report = session.config.stash[FACTS] | {
        "load after": os.getloadavg()[0],
        "milliseconds": groups,
    }
    name = f"benchmarks{'' if heap(session.config) == 'kept' else '-default'}.json"
    path = folder_of(session.config.getoption("results")) / name
    path.write_text(json.dumps(report, indent=1) + "\n")
