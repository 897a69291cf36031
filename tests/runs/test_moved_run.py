"""A run finds its data from another folder, and after it was moved together with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastgan.cli.main import main
from fastgan.data import save_volume
from fastgan.train import RunFolder, checkpoint

FLAGS = [
    *("--shape", "8", "8", "8", "--batch-size", "2", "--device", "cpu", "--holdout", "0.4"),
    *("--latent-dim", "2", "--critic-steps", "1", "--modality", "map"),
    *("--generator-channels", "4", "4", "--critic-channels", "4", "4"),
]


def command(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `data` and, trained from inside it, `runs/00000-fastgan-seed0`."""
    folder, rng = tmp_path / "project", np.random.default_rng(0)
    (folder / "data").mkdir(parents=True)
    for i in range(6):
        volume = rng.random((8, 8, 8), np.float32)
        save_volume(folder / "data" / f"v{i}.nii.gz", volume, np.eye(4))
    monkeypatch.chdir(folder)
    assert command("train", *FLAGS, "--source", "data", "--steps", 1) == 0
    return folder


def resume_and_audit(run: Path, out: Path) -> None:
    assert command("train", "--resume", run, "--steps", 2) == 0
    assert checkpoint.newest(run).step == 2
    assert command("generate", "--run", run, "--count", 2, "--out", out / "made") == 0
    audit = ["audit", "--run", run, "--generated", out / "made", "--out", out / "audit"]
    assert command(*audit, "--quick", "--only", "leakage", "--device", "cpu") in (0, 3, 4)


def test_from_another_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = project / "runs" / "00000-fastgan-seed0"
    assert RunFolder(run).config().data.source == str(project / "data")
    resume_and_audit(run, tmp_path)
    # Reports are handed on: they name the data, not where on this machine they lie.
    assert str(tmp_path) not in (tmp_path / "audit" / "report.html").read_text()


def test_moved_with_its_data(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    moved = tmp_path / "moved"
    shutil.move(project, moved)
    run = moved / "runs" / "00000-fastgan-seed0"
    assert RunFolder(run).config().data.source == str(moved / "data")
    resume_and_audit(run, tmp_path)


def test_moved_without_its_data(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(project / "runs" / "00000-fastgan-seed0", tmp_path / "alone"))
    shutil.rmtree(project)
    capsys.readouterr()
    assert command("train", "--resume", run, "--steps", 2) == 10
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    tried = (project / "data", tmp_path.parent / "data")
    assert all(str(place) in said for place in tried) and "--source" in said
    assert command("generate", "--run", run, "--count", 1, "--out", tmp_path / "made") == 0
    # Given anew, the data are those of the run.
    rng = np.random.default_rng(0)
    (tmp_path / "again").mkdir()
    for i in range(6):
        volume = rng.random((8, 8, 8), np.float32)
        save_volume(tmp_path / "again" / f"v{i}.nii.gz", volume, np.eye(4))
    again = ["train", "--resume", run, "--steps", 2, "--source", tmp_path / "again"]
    assert command(*again) == 15 and "data.source" in capsys.readouterr().err
    assert command(*again, "--allow-change", "data.source") == 0


def test_bundled_names_stay_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*FLAGS, "--shape", "32", "32", "32", "--modality", "mask", "--steps", "1"]
    assert command("train", *flags, "--out", tmp_path) == 0
    run = RunFolder(capsys.readouterr().out.strip())
    assert run.config().data.source == "lidc-nodules"
    assert "sources" not in json.loads((run.path / "data.json").read_text())
