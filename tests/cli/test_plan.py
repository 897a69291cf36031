from __future__ import annotations

import dataclasses
import json

import pytest

from fastgan import config as configuration
from fastgan.errors import ResourceLimit
from tests.runs.pretended import Machine
from tests.runs.volumes import tiny, write_volumes


@pytest.fixture
def machine(monkeypatch) -> Machine:
    """A pretended machine in place of every trial."""
    pretended = Machine(voxels_per_second=3e5)
    monkeypatch.setattr("fastgan.runs.plan.measure", lambda config, memory: pretended(config))
    monkeypatch.setattr("fastgan.runs.plan.free_memory", lambda device: 200 * 10**9)
    monkeypatch.setattr("fastgan.train.precision._cpu_flags", set)
    return pretended


@pytest.fixture
def wish(tmp_path):
    file = tmp_path / "wish.yaml"
    file.write_text("data: {source: v, shape: [64, 64, 64]}\ntrain: {device: cpu}\n")
    return file


def test_a_table_and_a_file(cli, machine, wish, tmp_path):
    out = tmp_path / "plan.yaml"
    answer = cli("plan", wish, "--hours", 8, "--out", out, "--count", 20)
    assert answer.code == 0, answer.err
    chosen = configuration.load(out)
    assert chosen.model.fold == (2, 2, 2) and chosen.data.source == "v"
    for name in ("a step", "train", "generate", "audit", "host memory", "disk", "checkpoints"):
        assert any(line.strip().startswith(name) for line in answer.out.splitlines()), name
    assert "given up to end within 8 h" in answer.out and "model.fold 1 -> 2" in answer.out
    assert "for 20 volumes" in answer.out
    assert f"fastgan train --config {out}" in answer.err
    # What fits is chosen again, and nothing more is given up.
    again = cli("plan", out, "--hours", 8, "--out", tmp_path / "again.yaml")
    assert again.code == 0 and "nothing was given up" in again.out
    assert configuration.load(tmp_path / "again.yaml") == chosen


def test_json(cli, machine, wish, tmp_path):
    answer = cli("plan", wish, "--json", "--out", tmp_path / "plan.yaml")
    content = json.loads(answer.out)
    chosen = configuration.load(tmp_path / "plan.yaml").model_dump(mode="json")
    assert content["config"] == chosen and content["hours"] == 8.0
    assert content["prediction"]["train_seconds"] > 0 and content["traded"]


def test_a_gpus_memory_has_a_line(cli, machine, wish, tmp_path, monkeypatch):
    def on_gpu(config, memory):
        found = machine(config)
        return dataclasses.replace(
            found, device="cuda:0", device_bytes=10**9, device_held=2 * 10**9
        )

    monkeypatch.setattr("fastgan.runs.plan.measure", on_gpu)
    answer = cli("plan", wish, "--out", tmp_path / "plan.yaml")
    assert "1 GB of tensors, 2.6 GB must be free" in answer.out


def test_nothing_is_overwritten_or_measured(cli, machine, wish, tmp_path):
    taken = tmp_path / "plan.yaml"
    taken.write_text("mine")
    answer = cli("plan", wish, "--out", taken)
    assert answer.code == 10 and "nothing is overwritten" in answer.err
    assert taken.read_text() == "mine" and machine.asked == []
    answer = cli("plan", wish, "--out", tmp_path / "absent" / "plan.yaml")
    assert answer.code == 10 and machine.asked == []


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--hours", "0"], 2, "hours: must be a number above 0"),
        (["--hours", "nan"], 2, "hours: must be a number above 0"),
        (["--hours", "soon"], 2, "--hours"),
        (["--memory", "0"], 2, "--memory: must be"),
        (["--memory", "nan"], 2, "--memory: must be"),
        (["--count", "0"], 2, "count"),
        (["--keep", "model.fodl"], 2, "did you mean 'model.fold'?"),
        (["--hours", "0.0001"], 13, "nothing fits into 0.0001 h"),
        (["--memory", "0.001"], 13, "nothing fits"),
    ],
)
def test_mistakes_in_one_line(cli, machine, wish, tmp_path, flags, code, said):
    out = tmp_path / "plan.yaml"
    answer = cli("plan", wish, "--out", out, *flags)
    assert answer.code == code and said in answer.err and "Traceback" not in answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("fastgan:")]
    assert len(errors) == 1 and not out.exists()


def test_a_config_that_cannot_be(cli, machine, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("train: {stpes: 3}\n")
    answer = cli("plan", bad, "--out", tmp_path / "plan.yaml")
    assert answer.code == 2 and "did you mean 'train.steps'?" in answer.err
    answer = cli("plan", tmp_path / "absent.yaml", "--out", tmp_path / "plan.yaml")
    assert answer.code == 10 and "absent.yaml" in answer.err
    cuda = tmp_path / "cuda.yaml"
    cuda.write_text("train: {device: 'cuda:63'}\n")
    answer = cli("plan", cuda, "--out", tmp_path / "plan.yaml")
    assert answer.code == 2 and "CUDA devices" in answer.err


def test_a_trials_failure_is_one_line(cli, wish, tmp_path, monkeypatch):
    def fails(config, memory):
        raise ResourceLimit("a trial of a few steps ended with code 1: it said nothing")

    monkeypatch.setattr("fastgan.runs.plan.measure", fails)
    answer = cli("plan", wish, "--out", tmp_path / "plan.yaml")
    assert answer.code == 13 and "ended with code 1" in answer.err


def test_a_plan_trains(cli, tmp_path):
    """Nothing pretended: a real trial in a real child, and the file it writes."""
    source = write_volumes(tmp_path / "v", labels=True)
    config = tiny(source, conditional=True)
    config.train.steps = 2
    (tmp_path / "wish.yaml").write_text(configuration.dump(config))
    answer = cli("plan", tmp_path / "wish.yaml", "--out", tmp_path / "plan.yaml")
    assert answer.code == 0, answer.err
    trained = cli("train", "--config", tmp_path / "plan.yaml", "--out", tmp_path / "runs")
    assert trained.code == 0, trained.err
