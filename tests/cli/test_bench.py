from __future__ import annotations

import json

import pytest
import torch

from fastgan.cli import bench
from fastgan.ops.proof import certify, timing


def test_table(cli, monkeypatch) -> None:
    monkeypatch.setattr(bench, "ROUNDS", 1)
    answer = cli("bench", "--device", "cpu")
    assert answer.code == 0, answer.err
    rows = [line.split() for line in answer.out.splitlines()[1:]]
    passes = {(op, what) for op, what, *_ in rows}
    assert {("norm_act", "second"), ("conv3d", "backward"), ("nearest", "search")} <= passes
    assert {row[2] for row in rows} == {"reference", "native"}
    assert all(float(row[3]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--certify", "--device", "cpu"), "bench: --certify needs a GPU"),
        (("--tolerance", "1.5"), "bench: --tolerance is a share between 0 and 1, got 1.5"),
        (("--compare", "nowhere.json"), "nowhere.json"),
    ],
)
def test_rejects(cli, arguments, message) -> None:
    answer = cli("bench", *arguments)
    assert answer.code == (10 if "--compare" in arguments else 2) and message in answer.err


@pytest.mark.parametrize("problems", [[], ["float32 second has 7 times PyTorch's error"]])
def test_certify_writes_what_was_found(cli, monkeypatch, tmp_path, problems) -> None:
    # The GPU is a pretended one; the trials have tests of their own.
    result = certify.Result({"float32 forward mean": 0.5}, problems)
    monkeypatch.setattr(certify, "certify", lambda *_, **__: result)
    real = bench.certificate
    monkeypatch.setattr(bench, "certificate", lambda device: real(torch.device("cpu")))
    monkeypatch.setattr("fastgan.train.device.resolve", lambda name: torch.device("cuda", 0))
    target = tmp_path / "sm_90.json"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    answer = cli("bench", "--certify", "--out", target)
    assert answer.code == int(bool(problems)), answer.err
    written = json.loads(target.read_text())
    assert written["results"]["norm_act native"]["problems"] == problems
    assert written["torch"] == torch.__version__
    assert ("wrong" if problems else "correct") in answer.out


def _times(*passes: tuple[str, float]) -> list[timing.Time]:
    """Of the reference and of kernels so many times as fast."""
    reference, found = (0.020, 0.030, 0.022), []
    for what, ratio in passes:
        for name, by in (("reference", 1.0), ("native", ratio)):
            own = tuple(t / by for t in reference)
            found.append(timing.Time("norm_act", what, name, 22.0 / by, by, own, by))
    return found


@pytest.fixture
def measured(monkeypatch) -> list[list[timing.Time]]:
    """What the next measurements find, the last one for ever."""
    waiting: list[list[timing.Time]] = []

    def times(device, ops=None, rounds=None):
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return iter([row for row in found if ops is None or row.op in ops])

    monkeypatch.setattr(timing, "times", times)
    return waiting


def test_times_are_written_and_compared(cli, measured, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    measured.append(_times(("forward", 2.0), ("backward", 4.0)))
    assert cli("bench", "--device", "cpu", "--out", file).code == 0
    entry = json.loads(file.read_text())["benchmarks"][1]
    assert entry["name"] == "norm_act forward native" and entry["group"] == "norm_act forward"
    assert entry["stats"]["min"] == pytest.approx(0.010) and entry["stats"]["rounds"] == 3
    assert entry["stats"]["median"] == pytest.approx(0.011)
    same = cli("bench", "--device", "cpu", "--compare", file)
    assert same.code == 0 and "0 lost more than 25%" in same.out


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([1.6], 0),  # within the tolerance
        ([1.4], 3),
        ([1.4, 1.4, 1.9], 0),  # a disturbance passes
        ([1.4, 1.4, 1.4, 1.9], 3),  # but there are three runs in all
    ],
)
def test_ground_that_was_lost(cli, measured, tmp_path, runs, code) -> None:
    file = tmp_path / "baseline.json"
    measured.append(_times(("forward", 2.0)))
    cli("bench", "--device", "cpu", "--out", file)
    measured[:] = [_times(("forward", ratio)) for ratio in runs]
    answer = cli("bench", "--device", "cpu", "--compare", file)
    assert answer.code == code, answer.out
    assert ("norm_act forward native: 2.00 times the reference, now 1.40" in answer.out) == (
        code > 0
    )


def test_an_implementation_that_is_gone_lost_its_ground(cli, measured, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    measured.append(_times(("forward", 2.0), ("backward", 2.0)))
    cli("bench", "--device", "cpu", "--out", file)
    measured[:] = [_times(("forward", 2.0))]
    answer = cli("bench", "--device", "cpu", "--compare", file)
    assert answer.code == 3
    assert "norm_act backward native: 2.00 times the reference, now not there" in answer.out


def test_another_machine_is_named(cli, measured, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    measured.append(_times(("forward", 2.0)))
    cli("bench", "--device", "cpu", "--out", file)
    content = json.loads(file.read_text())
    content["machine_info"]["processor"] = "another\x1b[31m"
    file.write_text(json.dumps(content))
    answer = cli("bench", "--device", "cpu", "--compare", file)
    assert answer.code == 0 and "another machine" in answer.out and "\x1b" not in answer.out


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"benchmarks": []}', '{"benchmarks": [{"name": "x"}]}', "[" * 100_000],
)
def test_files_that_are_no_baseline(cli, measured, tmp_path, content) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(content)
    measured.append(_times(("forward", 2.0)))
    answer = cli("bench", "--device", "cpu", "--compare", file)
    assert answer.code == 10 and "write the baseline with it" in answer.err
    assert file.read_text() == content
