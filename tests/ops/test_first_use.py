"""GPU kernels that prove themselves at first use; the GPU is pretended, the child is real."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.ops import implementation
from fastgan.ops.implementations import certificates, dispatch, first_use, verdicts
from tests.ops.pretended_gpu import GPU, PASSES, X, asked_again, first


def test_proven_and_faster_is_taken_from_then_on(trial, cache, capfd) -> None:
    assert first() is None and first() is None and trial.asked == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "bias_act native on NVIDIA H200: proven, 2.50 times as fast" in said[0]
    assert str(cache) in said[0]
    assert asked_again() is None and trial.asked == 1
    assert capfd.readouterr().err == ""


def test_auto_takes_what_was_proven(trial) -> None:
    assert dispatch.choose("bias_act", X) == "native"
    trial.does("answer(problems=[], ratio=0.8)")
    assert dispatch.choose("bias_act", X) == "native" and trial.asked == 1


def test_nothing_is_tried_for_what_is_forced_or_serves_itself(trial) -> None:
    with implementation("native"):
        assert dispatch.choose("bias_act", X) == "native"
    with implementation("reference"):
        assert dispatch.choose("bias_act", X) == "reference"
    assert dispatch.choose("bias_act", torch.zeros(1, 1, 2, 2, 2)) in ("native", "reference")
    assert dispatch.implementations("bias_act", X) == ["native"]
    assert trial.asked == 0


NEVER_TAKEN = [
    (
        "answer(problems=['float32 second has 7 times the error', 'more'], ratio=0.0)",
        "wrong",
        "found float32 second has 7 times the error",
    ),
    ("os.kill(os.getpid(), 11)", "crashed", "was ended by SIGSEGV"),
    (
        "print('CUDA error: illegal address', file=sys.stderr); sys.exit(3)",
        "crashed",
        "ended with 3",
    ),
    ("pass", "crashed", "ended with 0: nothing said"),
    ("pathlib.Path(task['answer']).write_text('{')", "crashed", "ended with 0"),
]


@pytest.mark.parametrize(("code", "outcome", "reason"), NEVER_TAKEN)
def test_wrong_or_crashing_kernels_are_never_taken(code, outcome, reason, trial, cache) -> None:
    trial.does(code)
    said = first()
    assert said is not None and reason in said and "FASTGAN_CERTIFY=now tries again" in said
    assert dispatch.choose("bias_act", X) == "reference"
    (file,) = cache.glob("*.json")
    assert json.loads(file.read_text())["verdict"]["outcome"] == outcome
    trial.does(PASSES)
    assert reason in str(asked_again()) and trial.asked == 1


def test_a_kernel_that_hangs_is_killed_and_marked(trial, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(first_use.LIMITS, "native", 2.0)
    trial.does(
        f"""
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(60)
        """
    )
    start = time.monotonic()
    assert "did not end within 2 s and was killed" in str(first())
    assert time.monotonic() - start < 15
    for pid in (tmp_path / "pids").read_text().split():
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"
    trial.does(PASSES)
    assert "did not end within" in str(asked_again()) and trial.asked == 1


def test_slower_than_pytorch_is_not_taken(trial) -> None:
    trial.does("answer(problems=[], ratio=0.5)")
    assert "proven, but takes 2.00 times as long as PyTorch's own path" in str(first())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("answer(untried='not enough memory on cuda:0')", "not enough memory on cuda:0"),
        ("print('CUDA out of memory', file=sys.stderr); sys.exit(1)", "CUDA out of memory"),
        (
            "print('all devices are busy or unavailable', file=sys.stderr); sys.exit(1)",
            "busy or unavailable",
        ),
    ],
)
def test_what_may_go_better_tomorrow_is_not_kept(code, reason, trial, cache) -> None:
    trial.does(code)
    assert reason in str(first()) and first() is not None and trial.asked == 1
    assert not list(cache.glob("*.json"))
    trial.does(PASSES)
    assert asked_again() is None and trial.asked == 2


def test_off_tries_nothing_and_takes_nothing(trial, monkeypatch) -> None:
    assert first() is None
    monkeypatch.setenv("FASTGAN_CERTIFY", "off")
    assert "FASTGAN_CERTIFY=off" in str(first())
    assert dispatch.choose("bias_act", X) == "reference"
    assert "not certified on sm_90" in str(certificates.obstacle("bias_act", "native", GPU))
    assert trial.asked == 1


def test_now_tries_again_once(trial, monkeypatch) -> None:
    trial.does("os.kill(os.getpid(), 6)")
    assert first() is not None
    monkeypatch.setenv("FASTGAN_CERTIFY", "now")
    trial.does(PASSES)
    time.sleep(0.05)
    monkeypatch.setattr(first_use, "_STARTED", time.time())
    time.sleep(0.05)
    assert asked_again() is None and trial.asked == 2
    assert asked_again() is None and trial.asked == 2


def test_another_word_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("FASTGAN_CERTIFY", "yes")
    with pytest.raises(ConfigError, match="FASTGAN_CERTIFY: must be one of auto, off, now"):
        first_use.mode()


def test_a_committed_certificate_counts_as_before(trial, tmp_path, monkeypatch) -> None:
    (tmp_path / "certified").mkdir()
    # Also where the extension was built without CUDA, and knows of no sources.
    sources = "of the kernels that are installed"
    monkeypatch.setattr(certificates, "digest", lambda name: sources)
    for problems, wanted in (([], None), (["bad"], "failed on sm_90: bad")):
        result = {"sources": sources, "figures": {}, "problems": problems}
        text = json.dumps({"results": {"bias_act native": result}})
        (tmp_path / "certified" / "sm_90.json").write_text(text)
        certificates._results.cache_clear()
        assert certificates.obstacle("bias_act", "native", GPU) == wanted
    assert trial.asked == 0


def test_one_of_other_sources_is_replaced_by_a_trial(trial, tmp_path) -> None:
    (tmp_path / "certified").mkdir()
    result = {"sources": "other", "figures": {}, "problems": ["old"]}
    text = json.dumps({"results": {"bias_act native": result}})
    (tmp_path / "certified" / "sm_90.json").write_text(text)
    assert certificates.obstacle("bias_act", "native", GPU) is None and trial.asked == 1


def test_nothing_is_tried_while_a_graph_is_captured(trial, monkeypatch) -> None:
    monkeypatch.setattr(first_use, "_capturing", lambda: True)
    assert "a CUDA graph is being captured" in str(first()) and trial.asked == 0
    monkeypatch.setattr(first_use, "_capturing", lambda: False)
    assert first() is None


def test_doctor_tells_and_tries_nothing(trial, monkeypatch, capsys) -> None:
    from fastgan.cli import doctor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(dispatch, "_probe", lambda device: X)

    def row() -> dispatch.Row:
        return {r[:3]: r for r in dispatch.report()}["bias_act", "native", "cuda"]

    assert not row().available and "not tried yet: its trial runs at first use" in row().reason
    assert any("bias_act native: not tried yet" in line for line in doctor._trials())
    assert trial.asked == 0
    assert dispatch.choose("bias_act", X) == "native"
    assert row().available and row().used
    (line,) = [line for line in doctor._trials() if "bias_act native" in line]
    assert "proven, 2.50 times as fast as PyTorch's own path" in line and ".json" in line
    first_use._known.clear()
    assert row().available and trial.asked == 1


def test_the_child_itself(trial, monkeypatch, tmp_path) -> None:
    """The whole way with the kernels of the CPU in the place of the GPU's."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = first_use._tried("bias_act", "native", torch.device("cpu"))
    assert isinstance(found, verdicts.Verdict), found
    assert found.outcome == "proven" and found.ratio > 0 and found.seconds > 0
    wrong = first_use._tried("no such operator", "native", torch.device("cpu"))
    assert isinstance(wrong, verdicts.Verdict) and wrong.outcome == "wrong"
    assert "no trial of no such operator is written" in wrong.said
    broken = first_use._tried("bias_act", "no such name", torch.device("cpu"))
    assert broken.outcome == "crashed" and "no such name" in broken.said  # type: ignore[union-attr]


def test_memory_that_others_hold_is_no_verdict(monkeypatch) -> None:
    from fastgan.ops.proof import trial as child

    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(child, "certify", full)
    found = child.tried("bias_act", "native", torch.device("cpu"))
    assert found == {
        "untried": "not enough memory on cpu: CUDA out of memory. Tried to allocate 20 GiB"
    }
