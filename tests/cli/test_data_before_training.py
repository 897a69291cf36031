"""What `train` finds out about its data before the first step, and what it then records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastgan import config as configuration
from fastgan.data import open_dataset, save_volume
from fastgan.data.splits import holdout_subjects
from fastgan.runs.cohorts import cohort_of


@pytest.fixture
def volumes(tmp_path) -> Path:
    path = tmp_path / "volumes"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        array = rng.uniform(1.0, 900.0, (16, 16, 16)).astype(np.float32)
        save_volume(path / f"p{i}.nii.gz", array, np.eye(4))
    return path


@pytest.fixture
def train(cli, small, tmp_path):
    flags = [flag for flag in small if flag != "--conditional"]

    def call(source, *more):
        shape = ("--shape", 16, 16, 16)
        out = ("--out", tmp_path / "runs", "--steps", 1)
        return cli("train", "--source", source, *shape, *out, *flags, *more)

    return call


def test_a_damaged_held_out_file_stops_before_the_first_step(train, volumes, tmp_path):
    held = volumes / f"{min(holdout_subjects([f'p{i}' for i in range(6)], 0.2))}.nii.gz"
    held.write_bytes(held.read_bytes()[:-3])
    answer = train(volumes)
    assert answer.code == 11 and held.name in answer.err
    assert not list((tmp_path / "runs").glob("0*"))
    answer = train(volumes, "--exclude", held.name)
    assert answer.code == 0, answer.err
    assert configuration.load(Path(answer.out.strip()) / "config.yaml").data.exclude == (held.name,)


def test_what_is_odd_is_told_by_file(train, volumes):
    (volumes / "notes.txt").write_text("x")
    body = np.full((16, 16, 16), -1000, np.int16)
    body[4:12, 4:12, 4:12] = np.random.default_rng(0).integers(0, 80, (8, 8, 8))
    save_volume(volumes / "ct.nii.gz", body, np.eye(4))
    answer = train(volumes)
    assert answer.code == 0, answer.err
    assert f"warning: {volumes}: not read: texts (.txt): 1" in answer.err
    assert "ct.nii.gz: looks like CT (air near -1000 HU) and is read as mr" in answer.err


def test_columns_reach_the_record_and_the_audit(train, volumes):
    rows = [f"p{i}.nii.gz,{'FM'[i % 2]},{30 + i},{'A. Smith ' + str(i)}" for i in range(6)]
    text = "\n".join(["path,sex,age,name", *rows])
    (volumes / "manifest.csv").write_text(text)
    answer = train(volumes, "--holdout", 0.0)
    assert answer.code == 0, answer.err
    run = Path(answer.out.strip())
    columns = json.loads((run / "data.json").read_text())["columns"]
    assert columns["sex"] == {"kind": "category", "missing": 0, "counts": {"F": 3, "M": 3}}
    assert columns["age"]["median"] == 32.5
    assert "Smith" not in (run / "data.json").read_text()
    data = open_dataset(configuration.load(run / "config.yaml").data, "train")
    cohort = cohort_of(data, "training")
    assert list(cohort.columns["sex"]) == ["F", "M"] * 3
    assert [float(age) for age in cohort.columns["age"]] == [30.0 + i for i in range(6)]
    assert cohort.n_subjects == 6


def test_selections_as_flags(cli, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a_T1w.npy", rng.uniform(2, 900, (16, 16, 16, 3)))
    np.save(tmp_path / "b_T2w.npy", rng.uniform(2, 900, (16, 16, 16)))
    common = ("--source", tmp_path, "--shape", 16, 16, 16, "--holdout", 0.0, "--dry-run")
    for flags, count in (
        (("--volume", "each"), 4),
        (("--volume", 2), 2),
        (("--volume", "each", "--suffix", "T1w"), 3),
        (("--suffix", "T2w", "--modality", "MR"), 1),
        (("--exclude", "a*", "c*", "--modality=Mr"), 1),
    ):
        answer = cli("train", *common, *flags)
        assert answer.code == 0, answer.err
        assert f"# volumes: {count};" in answer.out
    assert cli("train", *common, "--volume", "all").code == 2
    assert cli("train", *common, "--volume", 7).code == 10
    answer = cli("train", *common, "--volume", 0, "--source-b", tmp_path, "--suffix-b", "T2w")
    assert answer.code == 2 and "only a cyclegan has a domain B" in answer.err
