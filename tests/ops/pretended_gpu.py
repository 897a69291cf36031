"""A pretended GPU of capability 9.0, whose trials are what a test says they are."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.ops.implementations import certificates, first_use, verdicts
from fastgan.ops.implementations.cuda import bias_act as cuda_bias_act
from fastgan.ops.implementations.first_use import obstacle

GPU = torch.device("cuda", 0)
X: Any = types.SimpleNamespace(
    device=GPU, dtype=torch.float32, layout=torch.strided, ndim=5, shape=(1, 1, 2, 2, 2)
)
PREAMBLE = """
import json, os, sys, pathlib
task = json.load(sys.stdin)
with open({log!r}, "a") as file:
    file.write(task["op"] + "\\n")
def answer(**found):
    pathlib.Path(task["answer"]).write_text(json.dumps(found))
"""


class Trial:
    """What the pretended GPU's child does, and how often it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.monkeypatch = folder / "asked", monkeypatch

    def does(self, code: str) -> None:
        text = PREAMBLE.format(log=str(self.log)) + textwrap.dedent(code)
        self.monkeypatch.setattr(first_use, "_CHILD", text)

    @property
    def asked(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


PASSES = "answer(problems=[], ratio=2.5)"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "fastgan" / "trials"


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    """A GPU of capability 9.0, a user without verdicts, and a child that passes."""
    monkeypatch.setenv("FASTGAN_CERTIFY", "auto")
    monkeypatch.delenv("FASTGAN_IMPL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(verdicts.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr(verdicts, "driver", lambda: "580.159.03")
    monkeypatch.setattr(first_use, "_known", {})
    monkeypatch.setattr(certificates, "FOLDER", tmp_path / "certified")
    monkeypatch.setattr(cuda_bias_act, "supports", lambda x: None)
    certificates._results.cache_clear()
    found = Trial(tmp_path, monkeypatch)
    found.does(PASSES)
    yield found
    certificates._results.cache_clear()


def asked_again() -> str | None:
    """What a later process is answered."""
    first_use._known.clear()
    return obstacle("bias_act", "native", GPU, "digest")


def first() -> str | None:
    return obstacle("bias_act", "native", GPU, "digest")
