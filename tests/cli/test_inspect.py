from __future__ import annotations

import json

import numpy as np
import pytest

from fastgan import config as configuration
from fastgan.data import save_volume


@pytest.fixture
def folder(tmp_path):
    """Two small MR-like volumes and a file that is none."""
    path = tmp_path / "volumes"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        array = rng.uniform(1.0, 900.0, (8, 10, 12)).astype(np.float32)
        save_volume(path / f"sub-0{i}.nii.gz", array, np.diag([1.0, 1.0, 2.0, 1.0]))
    (path / "sub-09.nii.gz").write_bytes(b"")
    return path


def test_table_and_proposal(cli, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli("inspect", folder)
    assert answer.code == 10, answer.err
    lines = answer.out.splitlines()
    assert lines[0].split("\t")[:3] == ["file", "shape", "spacing (mm)"]
    assert "8 x 10 x 12\t1 x 1 x 2\tRAS" in lines[1]
    assert "2 volumes readable, 1 refused" in answer.out
    assert "refused, " in answer.out and "sub-09.nii.gz" in answer.out
    config = configuration.load(tmp_path / "fastgan-config.yaml")
    assert config.data.spacing == (1.0, 1.0, 2.0) and config.data.modality == "mr"


def test_nothing_is_overwritten(cli, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "fastgan-config.yaml"
    taken.write_text("mine")
    answer = cli("inspect", folder)
    assert answer.code == 10 and "stays as it is" in answer.err and "spacing:" in answer.err
    assert cli("inspect", folder, "--write", taken).code == 10
    assert taken.read_text() == "mine"
    assert cli("inspect", folder, "--write", tmp_path / "new.yaml").code == 10
    assert configuration.load(tmp_path / "new.yaml").data.source == str(folder)


def test_json(cli, folder, tmp_path):
    answer = cli("inspect", folder, "--json", "--write", tmp_path / "c.yaml")
    content = json.loads(answer.out)
    assert len(content["files"]) == 2 and content["proposal"]["data"]["modality"] == "mr"


def test_an_unusable_source(cli, tmp_path):
    answer = cli("inspect", tmp_path / "absent", "--write", tmp_path / "c.yaml")
    assert answer.code in (2, 10) and "absent" in answer.err
    assert not (tmp_path / "c.yaml").exists()
