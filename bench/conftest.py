"""One setting for all providers: freed memory is kept, or page faults drown the kernels."""

from __future__ import annotations

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
