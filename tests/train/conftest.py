from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).with_name("tiny_run.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastgan_tiny_run", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastgan_tiny_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    return _load()


@pytest.fixture
def quiet():
    from fastgan.train.progress import Progress

    return Progress(1, stream=io.StringIO())


@pytest.fixture
def fork():
    """Runs a function in a child process and returns the child's id; exit codes as by Python.

    A fork and not a new program, because importing torch takes longer than all the tests.
    """
    import torch

    children: list[int] = []

    def start(work: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # The parent's worker threads do not exist here.
                torch.set_num_threads(1)
                work()
                code = 0
            except KeyboardInterrupt:
                code = 130
            except SystemExit as stop:
                code = int(stop.code or 0)
            finally:
                os._exit(code)
        children.append(pid)
        return pid

    yield start
    for pid in children:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def one_thread():
    """Forked children have one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory, one_thread) -> Path:
    """The folder of a run of 7 steps; `copy` is one to change."""
    return tiny.train(tmp_path_factory.mktemp("finished"), 7)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))
