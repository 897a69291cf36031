"""Where verdicts of trials are kept, for whom they count, and who makes one of several."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fastgan.ops.implementations import first_use, verdicts
from fastgan.ops.implementations.first_use import obstacle
from tests.ops.pretended_gpu import GPU, PASSES, Trial, asked_again, first

ROOT = Path(__file__).resolve().parents[2]

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
