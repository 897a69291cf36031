"""GPU kernels that prove themselves at first use; the GPU is a pretended one, the child a real one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.ops import implementation
from fastgan.ops.implementations import certificates, dispatch, first_use, verdicts
from fastgan.ops.implementations.cuda import bias_act as cuda_bias_act
from fastgan.ops.implementations.first_use import obstacle

GPU = torch.device("cuda", 0)
ROOT = Path(__file__).resolve().parents[2]
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
            "print('all CUDA-capable devices are busy or unavailable', file=sys.stderr); sys.exit(1)",
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


OTHER = [
    (verdicts, "driver", lambda: "590.1"),
    (verdicts, "FORMAT", 2),
    (verdicts, "_operators", lambda: "of another version"),
    (verdicts, "_compiler", lambda name: "nvcc 13.1 for 90a"),
    (torch, "__version__", "2.99"),
    (torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200 MIG 1g.18gb"),
    (torch.cuda, "get_device_capability", lambda device=None: (10, 0)),
]


@pytest.mark.parametrize(("owner", "name", "value"), OTHER, ids=[o[1] for o in OTHER])
def test_a_verdict_of_something_else_does_not_count(owner, name, value, trial, monkeypatch) -> None:
    assert first() is None
    monkeypatch.setattr(owner, name, value)
    assert asked_again() is None and trial.asked == 2


def test_other_sources_are_tried_anew(trial) -> None:
    assert first() is None
    assert obstacle("bias_act", "native", torch.device("cuda", 1), "other") is None
    assert trial.asked == 2


def test_two_gpus_of_one_kind_share_a_verdict(trial) -> None:
    assert first() is None
    assert obstacle("bias_act", "native", torch.device("cuda", 1), "digest") is None
    assert trial.asked == 1


DAMAGED = ["", "{", "[]", '{"key": 1}', '{"verdict": {"outcome": "proven"}}', "\0" * 20]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_verdict_is_made_anew(text, trial, cache) -> None:
    assert first() is None
    (file,) = cache.glob("*.json")
    file.write_text(text)
    assert asked_again() is None and trial.asked == 2
    assert json.loads(file.read_text())["verdict"]["outcome"] == "proven"


def test_a_verdict_of_an_unknown_kind_is_none(trial, cache) -> None:
    assert first() is None
    (file,) = cache.glob("*.json")
    found = json.loads(file.read_text())
    for change in ({"outcome": "trusted"}, {"ratio": "much"}, {"further": 1}):
        file.write_text(json.dumps(found | {"verdict": found["verdict"] | change}))
        assert verdicts.find(found["key"]) is None
    file.unlink()
    elsewhere = cache / "elsewhere.json"
    elsewhere.write_text(json.dumps(found))
    file.symlink_to(elsewhere)
    assert verdicts.find(found["key"]) is None


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


def test_a_committed_certificate_counts_as_before(trial, tmp_path) -> None:
    (tmp_path / "certified").mkdir()
    sources = certificates.digest("native")
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


def test_threads_make_one_trial(trial) -> None:
    trial.does("import time; time.sleep(0.5); " + PASSES)
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(first())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 4 and trial.asked == 1


SECOND = """
import sys, torch
from fastgan.ops.implementations import first_use, verdicts
torch.cuda.get_device_capability = lambda device=None: (9, 0)
torch.cuda.get_device_name = lambda device=None: "NVIDIA H200"
verdicts.driver = lambda: "580"
first_use._CHILD = sys.argv[1]
first_use.LIMITS["native"] = float(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(first_use.obstacle("bias_act", "native", torch.device("cuda", 0), "digest"))
"""


def together(trial: Trial, tmp_path: Path, limit: float, count: int = 2) -> list[tuple[str, str]]:
    """What processes answer and say that ask at the same time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SECOND, first_use._CHILD, str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=60) for process in processes]


def test_of_two_processes_one_tries_and_the_other_waits(trial, tmp_path) -> None:
    trial.does("import time; time.sleep(2); " + PASSES)
    answers = together(trial, tmp_path, 60.0)
    assert [out.strip() for out, _ in answers] == ["None", "None"]
    assert trial.asked == 1
    assert sum("proven" in said for _, said in answers) == 1


def test_who_waits_in_vain_goes_on(trial, monkeypatch) -> None:
    monkeypatch.setattr(first_use, "_GRACE", 0.0)
    monkeypatch.setitem(first_use.LIMITS, "native", 0.5)
    key = first_use._key("bias_act", "native", GPU, "digest")
    with verdicts.turn(key, 1.0) as ours:
        assert ours and "another process is trying it" in str(first())
    assert trial.asked == 0


def test_a_lock_ends_with_its_process(trial, tmp_path) -> None:
    key = first_use._key("bias_act", "native", GPU, "digest")
    code = (
        "import json, os, sys; from fastgan.ops.implementations import verdicts\n"
        "with verdicts.turn(json.loads(sys.argv[1]), 1.0) as ours: os._exit(0 if ours else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(key)], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert first() is None and trial.asked == 1


def test_a_home_that_cannot_be_written_to(trial, cache, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    instead = tmp_path / "tmp" / f"fastgan-{os.getuid()}" / "trials"
    assert first() is None
    assert str(instead) in capfd.readouterr().err
    assert stat.S_IMODE(instead.parent.stat().st_mode) == 0o700
    assert asked_again() is None and trial.asked == 1


def test_nowhere_to_write_lasts_as_long_as_the_process(trial, monkeypatch, capfd) -> None:
    monkeypatch.setattr(verdicts, "folders", lambda: [Path("/proc/none")])
    assert first() is None and first() is None and trial.asked == 1
    assert "kept nowhere: no folder can be written to" in capfd.readouterr().err
    assert asked_again() is None and trial.asked == 2


def test_a_temporary_folder_of_somebody_else_proves_nothing(trial, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    planted = tmp_path / "tmp" / f"fastgan-{os.getuid()}"
    planted.mkdir(mode=0o700)
    planted.chmod(0o777)
    assert verdicts.folders() == [Path("/proc/none/fastgan/trials")]
    planted.rmdir()
    planted.symlink_to(tmp_path)
    assert verdicts.folders() == [Path("/proc/none/fastgan/trials")]


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
    from fastgan.ops import trial as child

    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(child, "certify", full)
    found = child.tried("bias_act", "native", torch.device("cpu"))
    assert found == {
        "untried": "not enough memory on cpu: CUDA out of memory. Tried to allocate 20 GiB"
    }
