from __future__ import annotations

import json
import shlex

import pytest

from fastgan import config as configuration
from fastgan.cli.main import main
from fastgan.runs.profile import times
from tests.runs.volumes import tiny, write_volumes


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch):
    monkeypatch.setattr(times, "LARGEST", {"cpu": 2**20})


@pytest.fixture
def wish(tmp_path):
    config = tiny(write_volumes(tmp_path / "volumes", labels=False), conditional=False)
    file = tmp_path / "wish.yaml"
    file.write_text(configuration.dump(config))
    return file


def test_a_table_and_three_files(cli, wish, tmp_path):
    out = tmp_path / "out"
    answer = cli("profile", wish, "--steps", 1, "--warm-up", 1, "--out", out)
    assert answer.code == 0, answer.err
    assert sorted(p.name for p in out.iterdir()) == ["profile.json", "profile.txt", "trace.json"]
    assert (out / "profile.txt").read_text() == answer.out
    for name in ("critic/penalty", "generator/backward", "critic/data", "ema", "of copy"):
        assert name in answer.out
    content = json.loads((out / "profile.json").read_text())
    assert content["device"] == "cpu" and content["copy_rate"] > 0
    assert json.loads((out / "trace.json").read_text())["traceEvents"]


def test_the_command_lines_it_prints_run(cli, wish, tmp_path):
    answer = cli("profile", wish, "--steps", 1, "--warm-up", 1, "--out", tmp_path / "a", "--json")
    content = json.loads(answer.out)
    systems, compute = content["commands"]
    for line in (systems, compute):
        _, _, ours = line.partition("fastgan profile ")
        words = shlex.split(ours)
        assert words[-1] == "--ranges" and main(["profile", *words]) == 0


def test_a_run_is_profiled_and_left_alone(cli, trained, tmp_path):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    answer = cli("profile", trained, "--steps", 1, "--warm-up", 1, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "1x32x32x32" in answer.out
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_nothing_is_overwritten(cli, wish, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    answer = cli("profile", wish, "--out", tmp_path / "out")
    assert answer.code == 10 and "nothing is overwritten" in answer.err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--steps", "0"], 2, "--steps: must be at least 1, got 0"),
        (["--warm-up", "-1"], 2, "--warm-up: must be at least 1, got -1"),
        (["--device", "cuda:63"], 2, "CUDA devices"),
        (["--step", "3"], 2, "did you mean '--steps'?"),
    ],
)
def test_mistakes_in_one_line(cli, wish, tmp_path, flags, code, said):
    answer = cli("profile", wish, "--out", tmp_path / "out", *flags)
    assert answer.code == code and said in answer.err and "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 1


def test_what_is_no_configuration(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = cli("profile", tmp_path / "empty", "--out", tmp_path / "out")
    assert answer.code == 10 and "not a run folder" in answer.err
    answer = cli("profile", tmp_path / "absent.yaml", "--out", tmp_path / "out")
    assert answer.code == 10 and "absent.yaml" in answer.err
    assert not (tmp_path / "out").exists()
