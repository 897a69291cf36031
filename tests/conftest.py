"""Fixtures of every test: devices, seeds, and uninitialised memory that cannot pass for data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

NO_CUDA = "no CUDA device that this torch can use"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(NO_CUDA)
    return torch.device(request.param)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch.empty returns NaN (integers: their largest value), so nothing unwritten goes unseen."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before, warn_only=warn_only)
