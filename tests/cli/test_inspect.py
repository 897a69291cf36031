from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from fastgan import config as configuration
from fastgan.data import open_dataset, save_volume
from fastgan.errors import ResourceLimit
from tests.runs.pretended import GB, Machine


@pytest.fixture(autouse=True)
def machine(monkeypatch) -> Machine:
    """A pretended machine, on which everything is quick, in place of every trial."""
    pretended = Machine(voxels_per_second=1e9)
    monkeypatch.setattr("fastgan.runs.plan.measure", lambda config, memory: pretended(config))
    monkeypatch.setattr("fastgan.runs.plan.free_memory", lambda device: 200 * GB)
    monkeypatch.setattr("fastgan.train.precision._cpu_flags", set)
    return pretended


@pytest.fixture
def folder(tmp_path):
    """Three small MR-like volumes and a file that is none."""
    path = tmp_path / "volumes"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        array = rng.uniform(1.0, 900.0, (8, 10, 12)).astype(np.float32)
        save_volume(path / f"sub-0{i}.nii.gz", array, np.diag([1.0, 1.0, 2.0, 1.0]))
    (path / "sub-09.nii.gz").write_bytes(b"")
    return path


def manifest(folder, rows, head="path,label,subject,site,split"):
    (folder / "manifest.csv").write_text("\n".join([head, *rows]))
    return folder


ROWS = (
    "sub-00.nii.gz,ill,a,Rome,train",
    "sub-01.nii.gz,well,b,Bern,train",
    "sub-02.nii.gz,well,c,Bern,test",
)


def test_table_and_proposal(cli, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli("inspect", folder)
    assert answer.code == 10, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split("\t")[:3] == ["file", "shape", "spacing (mm)"]
    assert "8 x 10 x 12\t1 x 1 x 2\tRAS" in lines[1]
    assert "3 volumes readable, 1 refused" in answer.out
    assert "refused, " in answer.out and "sub-09.nii.gz" in answer.out
    # What train would refuse is not proposed, so that the name is free for what it takes.
    assert not (tmp_path / "fastgan-config.yaml").exists()
    assert cli("inspect", folder, "--exclude", "sub-09.nii.gz").code == 0
    config = configuration.load(tmp_path / "fastgan-config.yaml")
    assert config.data.spacing == (1.0, 1.0, 2.0) and config.data.modality == "mr"


def test_the_line_that_leaves_refused_files_out_works(cli, folder, tmp_path):
    target = tmp_path / "a.yaml"
    answer = cli("inspect", folder, "--write", target)
    assert answer.code == 10 and not target.exists()
    line = next(
        line for line in answer.err.splitlines() if "to leave out what is refused: " in line
    )
    command = shlex.split(line.partition("to leave out what is refused: ")[2])
    assert command[:2] == ["fastgan", "inspect"] and command[-2:] == ["--exclude", "sub-09.nii.gz"]
    answer = cli(*command[1:])
    assert answer.code == 0 and "0 refused" in answer.out, answer.err
    assert "left out as asked (exclude, suffix): 1 volume" in answer.out
    config = configuration.load(target)
    assert config.data.exclude == ("sub-09.nii.gz",)
    assert len(open_dataset(config.data, "train")) + len(open_dataset(config.data, "holdout")) == 3


def test_the_line_that_leaves_refused_files_out_keeps_the_other_flags(cli, folder, tmp_path):
    given = ["--hours", "0.5", "--memory", "6", "--write", str(tmp_path / "a b.yaml"), "--json"]
    answer = cli("inspect", folder, *given)
    command = shlex.split(answer.err.partition("to leave out what is refused: ")[2])
    assert command[3:] == [*given, "--exclude", "sub-09.nii.gz"]
    assert cli(*command[1:]).code == 0 and (tmp_path / "a b.yaml").exists()


def test_nothing_is_overwritten(cli, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / "sub-09.nii.gz").unlink()
    taken = tmp_path / "fastgan-config.yaml"
    taken.write_text("mine")
    for name in ("fastgan-config-2.yaml", "fastgan-config-3.yaml"):
        answer = cli("inspect", folder)
        assert answer.code == 0 and "fastgan-config.yaml exists and stays as it is" in answer.err
        assert answer.err.rstrip().endswith(f"next: fastgan train --config {name}")
        assert configuration.load(tmp_path / name).data.source == str(folder)
    assert cli("inspect", folder, "--write", taken).code == 10
    assert taken.read_text() == "mine"
    assert cli("inspect", folder, "--write", tmp_path / "new.yaml").code == 0
    assert configuration.load(tmp_path / "new.yaml").data.source == str(folder)


def test_json(cli, folder, tmp_path):
    answer = cli("inspect", folder, "--json", "--write", tmp_path / "c.yaml")
    content = json.loads(answer.out)
    assert len(content["files"]) == 3 and content["proposal"]["data"]["modality"] == "mr"
    assert content["refused"][0]["pattern"] == "sub-09.nii.gz"
    assert content["summary"]["volumes"] == 3


def test_the_manifest_is_shown_and_classes_are_proposed(cli, folder, tmp_path):
    (folder / "notes.txt").write_text("x")
    answer = cli("inspect", manifest(folder, ROWS), "--write", tmp_path / "c.yaml")
    assert answer.code == 0, answer.err
    for line in (
        "  3 volumes of 3 subjects",
        "  split: train 2 (2), holdout 1 (1)",
        "  class: well 2 (2), ill 1 (1)",
        "  site: Bern 2 (2), Rome 1 (1)",
        "note: classes ill, well: conditional training is proposed",
        "note: no volume of class ill in holdout",
    ):
        assert line in answer.out.splitlines()
    assert "texts (.txt): 1" in answer.out
    assert "volumes or slices that manifest.csv does not name: 1" in answer.out
    assert configuration.load(tmp_path / "c.yaml").data.conditional


@pytest.mark.parametrize(
    ("subjects", "told"),
    [
        (10, "20 held-out subjects for most questions, not 1, and 120 volumes to tell copies"),
        (60, "20 held-out subjects for most questions, not 13; data.holdout: 0.35 holds out"),
        (130, None),
    ],
)
def test_what_an_audit_lacks_is_told_before_training(cli, tmp_path, subjects, told):
    array = np.random.default_rng(0).uniform(1.0, 900.0, (4, 4, 4)).astype(np.float32)
    (tmp_path / "v").mkdir()
    for i in range(subjects):
        save_volume(tmp_path / "v" / f"sub-{i:03d}.nii", array, np.eye(4))
    answer = cli("inspect", tmp_path / "v", "--no-plan", "--write", tmp_path / "a.yaml")
    said = [line for line in answer.out.splitlines() if "the audit needs" in line]
    assert len(said) == (told is not None) and (told is None or told in said[0]), answer.out


def test_a_manifest_that_train_refuses(cli, folder, tmp_path):
    both = [*ROWS[:2], ROWS[2].replace(",c,", ",a,")]
    answer = cli("inspect", manifest(folder, both), "--write", tmp_path / "c.yaml")
    assert answer.code == 2
    assert "subject 'a' is in train and in holdout" in answer.out
    answer = cli("inspect", manifest(folder, ROWS, "file,label,subject,site,split"))
    assert answer.code == 10 and "column 'file': did you mean 'path'" in answer.err


def test_archives(cli, tmp_path):
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, 256, (10, 16, 16, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", volumes=volumes, labels=np.arange(10) % 2)
    answer = cli("inspect", tmp_path / "a.npz", "--write", tmp_path / "c.yaml")
    assert answer.code == 0, answer.err
    assert "10 volumes readable, 0 refused" in answer.out
    config = configuration.load(tmp_path / "c.yaml")
    assert config.data.shape == (16, 16, 8) and config.data.conditional
    assert len(open_dataset(config.data, "train")) > 0


def test_contrasts_are_told_apart(cli, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("sub-01_T1w", "sub-02_T1w", "sub-01_T2w"):
        (tmp_path / "v").mkdir(exist_ok=True)
        array = rng.uniform(1.0, 900.0, (8, 8, 8)).astype(np.float32)
        save_volume(tmp_path / "v" / f"{name}.nii.gz", array, np.eye(4))
    answer = cli("inspect", tmp_path / "v", "--write", tmp_path / "a.yaml")
    assert answer.code == 0 and "T1w (2) and T2w (1) are mixed" in answer.out
    assert configuration.load(tmp_path / "a.yaml").data.suffix == "T1w"
    answer = cli("inspect", tmp_path / "v", "--suffix", "T2w", "--write", tmp_path / "b.yaml")
    assert "1 volume readable" in answer.out
    assert configuration.load(tmp_path / "b.yaml").data.suffix == "T2w"


def test_volumes_of_four_dimensional_files(cli, tmp_path):
    (tmp_path / "v").mkdir()
    np.save(tmp_path / "v" / "a.npy", np.random.default_rng(0).uniform(2, 9, (8, 8, 8, 3)))
    answer = cli("inspect", tmp_path / "v")
    assert answer.code == 10 and "--volume 0 to 2 (in a manifest by file#0)" in answer.err
    answer = cli("inspect", tmp_path / "v", "--volume", "each", "--write", tmp_path / "a.yaml")
    assert answer.code == 0 and "3 volumes readable" in answer.out
    assert configuration.load(tmp_path / "a.yaml").data.volume == "each"
    assert cli("inspect", tmp_path / "v", "--volume", "second").code == 2
    answer = cli("inspect", tmp_path / "v", "--volume", "2", "--write", tmp_path / "b.yaml")
    assert configuration.load(tmp_path / "b.yaml").data.volume == 2


def test_an_unusable_source(cli, tmp_path):
    answer = cli("inspect", tmp_path / "absent", "--write", tmp_path / "c.yaml")
    assert answer.code in (2, 10) and "absent" in answer.err
    assert not (tmp_path / "c.yaml").exists()


def test_only_what_the_machine_can_train_is_proposed(cli, folder, machine, tmp_path):
    (folder / "sub-09.nii.gz").unlink()
    machine.speed = 20.0
    target = tmp_path / "c.yaml"
    answer = cli("inspect", folder, "--hours", 2, "--write", target)
    assert answer.code == 0, answer.err
    config = configuration.load(target)
    wish = configuration.Config()
    assert config.model.fold == (2, 2, 2) and config.train.batch_size < wish.train.batch_size
    assert "given up to end within 2 h" in answer.out and "model.fold 1 -> 2" in answer.out
    assert "3 volumes readable" in answer.out and "measuring" in answer.err
    asked = len(machine.asked)
    plain = cli("inspect", folder, "--no-plan", "--write", tmp_path / "plain.yaml")
    assert plain.code == 0 and len(machine.asked) == asked
    assert configuration.load(tmp_path / "plain.yaml").model == wish.model


def test_the_plan_is_part_of_the_json(cli, folder, tmp_path):
    answer = cli("inspect", folder, "--json", "--write", tmp_path / "a.yaml")
    assert answer.code == 10 and json.loads(answer.out)["plan"] is None
    (folder / "sub-09.nii.gz").unlink()
    answer = cli("inspect", folder, "--json", "--write", tmp_path / "b.yaml")
    planned = json.loads(answer.out)["plan"]
    assert answer.code == 0 and planned["config"]["data"]["source"] == str(folder)


def test_nothing_fits(cli, folder, machine, tmp_path, monkeypatch):
    (folder / "sub-09.nii.gz").unlink()
    target = tmp_path / "c.yaml"
    answer = cli("inspect", folder, "--hours", "1e-6", "--write", target)
    assert answer.code == 13 and "nothing fits" in answer.err and "--no-plan" in answer.err
    for hours in ("0", "nan"):
        assert cli("inspect", folder, "--hours", hours, "--write", target).code == 2

    def fails(config, memory):
        raise ResourceLimit("a trial of a few steps ended with code 1: it said nothing")

    monkeypatch.setattr("fastgan.runs.plan.measure", fails)
    answer = cli("inspect", folder, "--write", target)
    assert answer.code == 13 and "ended with code 1" in answer.err and not target.exists()
