from __future__ import annotations

import json
import shutil

import pytest
import yaml

from fastgan import config as configuration
from fastgan.train import checkpoint
from fastgan.train.run_folder import RunFolder


def test_help_lists_every_key(cli):
    answer = cli("train", "--help")
    assert answer.code == 0
    for key in configuration.known_keys():
        assert f"--{key.rpartition('.')[2].replace('_', '-')}" in answer.out
    for flag in ("--config", "--resume", "--allow-change", "--dry-run", "--out"):
        assert flag in answer.out
    assert "Channels from the coarsest grid" in answer.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--step", "3"], "unknown flag '--step'; did you mean '--steps'?"),
        (["--trian.steps", "3"], "did you mean '--train.steps'?"),
        (["--data.steps", "3"], "unknown flag '--data.steps'"),
        (["--allow-change", "gan.penatly"], "did you mean 'gan.penalty'?"),
        (["--config", "absent.yaml"], "absent.yaml: cannot read: no such file"),
        (["--resume", "absent"], "absent: not a run folder"),
    ],
)
def test_mistakes_in_one_line(cli, flags, said):
    answer = cli("train", *flags)
    assert answer.code in (2, 10)
    assert said in answer.err and answer.err.count("\n") == 1


@pytest.mark.parametrize("flags", [["--steps", "abc"], ["--steps", "-1"], ["--shape", "8", "8"]])
def test_wrong_values(cli, flags):
    answer = cli("train", *flags)
    assert answer.code == 2
    assert flags[0].strip("-") in answer.err and "Traceback" not in answer.err


def test_dry_run_shows_the_overlay_and_writes_nothing(cli, small, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("train: {steps: 7, lr_critic: 1e-3}\ngan: {critic_steps: 3}\n")
    out = tmp_path / "runs"
    answer = cli(
        "train", *small, "--config", file, "--gan.critic_steps", 2, "--betas", "0.5", "0.9",
        "--window", "-1000", "400", "--dry-run", "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    shown = yaml.safe_load(answer.out)
    assert shown["train"]["steps"] == 7 and shown["train"]["lr_critic"] == 1e-3
    assert shown["gan"]["critic_steps"] == 2
    assert shown["train"]["betas"] == [0.5, 0.9] and shown["data"]["window"] == [-1000.0, 400.0]
    assert "classes: benign, malignant; weights: generator" in answer.out
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--device", "cuda:9"], 2, "train.device"),
        (["--minibatch-stddev", "3", "--batch-size", "4"], 2, "model.minibatch_stddev: 3 does not"),
        (["--out", "{file}"], 10, "cannot write run folders there"),
        (["--resume", "{run}", "--steps", "1"], 15, "2 steps behind it"),
        (["--resume", "{run}", "--batch-size", "3"], 15, "train.batch_size (2 -> 3)"),
    ],
    ids=["device", "minibatch", "out", "steps", "keys"],
)
def test_dry_run_notices_what_train_refuses(cli, small, trained, tmp_path, flags, code, said):
    (tmp_path / "file").touch()
    flags = [flag.format(file=tmp_path / "file", run=trained) for flag in flags]
    base = [] if "--resume" in flags else small
    for arguments in (["--dry-run"], []):
        answer = cli("train", *base, *flags, *arguments)
        assert answer.code == code and said in answer.err, answer.err
        assert answer.err.count("\n") == 1 and not answer.out


def test_modality_in_capitals(cli, small):
    answer = cli("train", *small, "--modality", "MASK", "--dry-run")
    assert answer.code == 0 and yaml.safe_load(answer.out)["data"]["modality"] == "mask"


def test_a_run_from_the_command_line(trained):
    run = RunFolder(trained)
    assert trained.name == "00000-small-seed0"
    assert run.config().train.steps == 2 and run.config().data.conditional
    assert (trained / "command.txt").read_text().startswith("fastgan")
    assert run.data()["classes"] == ["benign", "malignant"]
    assert checkpoint.newest(trained).step == 2
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert (trained / "samples" / "step-0000002.png").stat().st_size > 100


def test_resume_from_the_command_line(cli, small, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / trained.name)
    answer = cli("train", "--resume", run, "--batch-size", 3, "--steps", 3)
    assert answer.code == 15 and "train.batch_size (2 -> 3)" in answer.err
    assert RunFolder(run).config().train.steps == 2
    answer = cli("train", "--resume", run, "--steps", 3)
    assert answer.code == 0, answer.err
    assert checkpoint.newest(run).step == 3
    answer = cli(
        "train", "--resume", run, "--steps", 4, "--batch-size", 3,
        "--allow-change", "train.batch_size",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert RunFolder(run).config().train.batch_size == 3
    other = cli("train", "--resume", run, "--steps", 5, "--latent-dim", 5,
                "--allow-change", "model.latent_dim")  # fmt: skip
    assert other.code == 15 and "not the state of this architecture" in other.err


def test_a_resumed_run_equals_an_uninterrupted_one(cli, small, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / trained.name)
    assert cli("train", "--resume", run, "--steps", 3).code == 0
    whole = cli("train", *small, "--steps", 3, "--name", "small", "--out", tmp_path / "whole")
    a, b = checkpoint.newest(run), checkpoint.newest(tmp_path / "whole" / "00000-small-seed0")
    assert whole.code == 0 and a.step == b.step == 3
    for part, tensors in a.parts.items():
        for name, tensor in tensors.items():
            assert tensor.equal(b.parts[part][name]), f"{part}/{name}"
