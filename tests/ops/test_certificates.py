"""Which GPU kernels `auto` may take; the GPU is a pretended one."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

import fastgan.kernels
from fastgan.ops import implementation
from fastgan.ops.implementations import certificates, dispatch
from fastgan.ops.implementations.cuda import norm_act as cuda_norm_act
from fastgan.ops.implementations.triton import norm_act as triton_norm_act

GPU = torch.device("cuda", 0)
X: Any = types.SimpleNamespace(
    device=GPU, dtype=torch.float32, layout=torch.strided, ndim=5, shape=(1, 1, 2, 2, 2)
)
RIGHT = certificates.digest("triton")


@pytest.fixture(autouse=True)
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of capability 9.0 that Triton could serve, and no certificate."""
    monkeypatch.delenv("FASTGAN_IMPL", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(triton_norm_act, "supports", lambda x: None)
    monkeypatch.setattr(cuda_norm_act, "supports", lambda x: "no CUDA kernels were built")
    monkeypatch.setattr(certificates, "FOLDER", tmp_path)
    certificates._results.cache_clear()
    yield
    certificates._results.cache_clear()


def write(folder: Path, arch: str = "sm_90", **changes: Any) -> None:
    result = {"sources": RIGHT, "figures": {}, "problems": []} | changes
    text = json.dumps({"results": {"norm_act triton": result}})
    (folder / f"{arch}.json").write_text(text)


def test_none_is_shipped_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (Path(certificates.__file__).parent / "certified").glob("*.json"):
        assert isinstance(certificates._results(file), dict), file
        assert json.loads(file.read_text())["device"] != "cpu"


def test_without_a_certificate_the_reference_runs() -> None:
    assert dispatch.choose("norm_act", X) == "reference"
    reason = certificates.obstacle("norm_act", "triton", GPU)
    assert reason == "not certified on sm_90: run `fastgan bench --certify`"


def test_with_one_the_kernel_runs(tmp_path: Path) -> None:
    write(tmp_path)
    assert certificates.obstacle("norm_act", "triton", GPU) is None
    assert dispatch.choose("norm_act", X) == "triton"


def test_forcing_needs_none() -> None:
    with implementation("triton"):
        assert dispatch.choose("norm_act", X) == "triton"


REFUSED = [
    ({"arch": "sm_80"}, "not certified on sm_90"),
    ({"sources": "0" * 64}, "from other sources than are installed"),
    (
        {"problems": ["float32 second has 7 times PyTorch's error"]},
        "failed on sm_90: float32 second",
    ),
    ({"problems": 3}, "is no certificate"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED, ids=[r for _, r in REFUSED])
def test_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    write(tmp_path, **changes)
    assert reason in str(certificates.obstacle("norm_act", "triton", GPU))
    assert dispatch.choose("norm_act", X) == "reference"


def test_another_operator_is_not_certified(tmp_path: Path) -> None:
    write(tmp_path)
    assert "not certified" in str(certificates.obstacle("nearest", "triton", GPU))


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sm_90.json").write_text("{")
    reason = certificates.obstacle("norm_act", "triton", GPU)
    assert reason is not None and str(tmp_path / "sm_90.json") in reason


def test_digest_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in Path(fastgan.kernels.__file__).parent.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(fastgan.kernels, "__file__", str(tmp_path / "__init__.py"))
    certificates.digest.cache_clear()
    assert certificates.digest("triton") == RIGHT
    (tmp_path / "norm_act.py").write_text("changed")
    certificates.digest.cache_clear()
    assert certificates.digest("triton") != RIGHT
    certificates.digest.cache_clear()


def test_report_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dispatch, "_probe", lambda device: X)
    rows = {row[:3]: row for row in dispatch.report()}
    row = rows["norm_act", "triton", "cuda"]
    assert not row.available and "fastgan bench --certify" in row.reason
    assert rows["norm_act", "reference", "cuda"].used


def test_sources_that_were_not_installed_say_so() -> None:
    """As in a clone, after an installation elsewhere: Python takes the folder one stands in."""
    program = "import sys; sys.modules['fastgan.kernels'] = None; import fastgan.ops"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1 and "pip install -e ." in ended.stderr.splitlines()[-1]
