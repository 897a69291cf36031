"""From a folder of unknown volumes to a config that trains on it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fastgan import config
from fastgan.data import open_dataset, save_volume
from fastgan.data.inspect import inspect
from fastgan.errors import BadFile


def mixed_ct(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    cases = (
        ((40, 42, 20), (0.8, 0.8, 2.5)),
        ((36, 44, 26), (0.7, 0.7, 2.0)),
        ((41, 40, 22), (0.9, 0.9, 2.5)),
    )
    for i, (shape, spacing) in enumerate(cases):
        array = rng.uniform(-1000.0, 800.0, shape).astype(np.int16)
        affine = np.diag([*spacing, 1.0])
        if i == 1:
            affine[0, 0] *= -1.0
        save_volume(folder / f"sub-0{i}_ct.nii.gz", array, affine)
    return folder


def test_unequal_anisotropic_folder(tmp_path: Path) -> None:
    mixed_ct(tmp_path)
    (tmp_path / "broken.nii.gz").write_bytes((tmp_path / "sub-00_ct.nii.gz").read_bytes()[:-9])
    save_volume(tmp_path / "flat.nii", np.ones((4, 4, 4)), np.eye(4))
    found = inspect(tmp_path)
    assert [f.orientation for f in found.files] == ["RAS", "LAS", "RAS"]
    assert [f.subject for f in found.files] == ["sub-00", "sub-01", "sub-02"]
    assert found.files[1].shape == (36, 44, 26)
    assert np.allclose(found.files[1].spacing, (0.7, 0.7, 2.0))
    assert {f.modality for f in found.files} == {"ct"}
    assert [(Path(r.path).name, r.kind) for r in found.refused] == [
        ("broken.nii.gz", "CorruptFile"),
        ("flat.nii", "BadFile"),
    ]
    data = found.proposal["data"]
    assert data["spacing"] == [0.8, 0.8, 2.5] and data["modality"] == "ct"
    assert all(extent % 8 == 0 for extent in data["shape"])
    assert json.loads(json.dumps(found.as_json()))["proposal"] == found.proposal
    assert any("refused" in note for note in found.notes)


def test_proposal_trains_unchanged(tmp_path: Path) -> None:
    found = inspect(mixed_ct(tmp_path))
    parsed = config.parse(found.proposal)
    data = open_dataset(parsed.data, "train")
    held = open_dataset(parsed.data, "holdout")
    assert len(data) + len(held) == 3
    batch = data.sample(2, np.random.default_rng(0))
    assert list(batch.volumes.shape[2:]) == found.proposal["data"]["shape"]


@pytest.mark.parametrize("sampling", ["whole", "patch"])
def test_budget(tmp_path: Path, sampling: str) -> None:
    rng = np.random.default_rng(0)
    for i in range(2):
        array = rng.uniform(10.0, 500.0, (33, 25, 17)).astype(np.float32)
        save_volume(tmp_path / f"{i}.nii", array, np.eye(4))
    budget = 32 * 24 * 16 if sampling == "whole" else 16 * 16 * 16
    data = inspect(tmp_path, budget=budget).proposal["data"]
    assert data["shape"] == ([32, 24, 16] if sampling == "whole" else [16, 16, 16])
    assert data["sampling"] == sampling and data["modality"] == "mr"


def test_modalities(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, array in (
        ("mask", rng.integers(0, 2, (8, 8, 8)).astype(np.int16)),
        ("map", rng.uniform(0.0, 1.0, (8, 8, 8))),
        ("mr", rng.uniform(0.0, 900.0, (8, 8, 8))),
        ("ct", rng.uniform(-1000.0, 900.0, (8, 8, 8))),
    ):
        folder = tmp_path / name
        folder.mkdir()
        save_volume(folder / "a.nii", array, np.eye(4))
        found = inspect(folder)
        assert found.proposal["data"]["modality"] == name
        assert found.proposal["data"]["holdout"] == 0.0
        assert config.parse(found.proposal).data.shape == (8, 8, 8)


def test_bundled_and_unusable(tmp_path: Path) -> None:
    proposal = inspect("lidc-nodules").proposal
    assert config.parse(proposal).data.source == "lidc-nodules"
    (tmp_path / "a.nii").write_bytes(b"no volume")
    with pytest.raises(BadFile, match="no readable volume; refused: 1 file, the first: "):
        inspect(tmp_path)


def test_refuses_what_training_would(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cube = rng.uniform(1.0, 900.0, (8, 8, 8)).astype(np.float32)
    save_volume(tmp_path / "good.nii", cube, np.eye(4))
    regions = np.kron(rng.integers(0, 40, (2, 2, 2)), np.ones((4, 4, 4)))
    save_volume(tmp_path / "regions.nii", regions.astype(np.int16), np.eye(4))
    nibabel.save(nibabel.Nifti1Image(cube.astype(np.uint16), np.eye(4)), tmp_path / "raw.nii")
    (tmp_path / "manifest.csv").write_text(
        "path,modality\ngood.nii,mr\nregions.nii,mr\nraw.nii,ct\n"
    )
    found = inspect(tmp_path)
    assert [Path(r.path).name for r in found.refused] == ["regions.nii", "raw.nii"]
    assert "label map" in found.refused[0].reason and "unsigned" in found.refused[1].reason


def test_a_window_is_proposed_for_maps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        save_volume(tmp_path / f"z{i}.nii", 3.0 * rng.standard_normal((8, 8, 8)), np.eye(4))
    found = inspect(tmp_path)
    data = config.parse(found.proposal).data
    assert data.modality == "map" and data.window is not None
    assert data.window == (min(f.low for f in found.files), max(f.high for f in found.files))
    assert len(open_dataset(data, "train")) + len(open_dataset(data, "holdout")) == 3


def test_of_one_subject_nobody_is_held_out(tmp_path: Path) -> None:
    # The hash of this name alone would hold it out, and leave nothing to train on.
    rng = np.random.default_rng(0)
    for i in range(3):
        array = rng.uniform(-1000.0, 800.0, (24, 24, 24)).astype(np.int16)
        save_volume(tmp_path / f"sub-0{i}_ct.nii.gz", array, np.eye(4))
    (tmp_path / "manifest.csv").write_text(
        "path,subject\n" + "".join(f"sub-0{i}_ct.nii.gz,sub-a\n" for i in range(3))
    )
    found = inspect(tmp_path / "manifest.csv")
    assert found.proposal["data"]["holdout"] == 0.0
    assert found.summary is not None and list(found.summary.groups["split"]) == ["train"]
    assert "one subject" in " ".join(found.notes)


@pytest.mark.parametrize(("slices", "told"), [(8, True), (24, False)])
def test_the_few_volumes_that_make_all_small_are_named(
    slices: int, told: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for i in range(11):
        shape = (33, 34, slices if i == 7 else 32)
        array = rng.uniform(10.0, 500.0, shape).astype(np.float32)
        save_volume(tmp_path / f"sub-{i:02d}.nii", array, np.eye(4))
    found = inspect(tmp_path)
    assert found.proposal["data"]["shape"] == [32, 32, slices]
    notes = [note for note in found.notes if "--exclude" in note]
    assert len(notes) == told
    for note in notes:
        assert "32 x 32 x 32, not 32 x 32 x 8, without" in note and "sub-07.nii" in note


def test_one_is_said_in_the_singular(tmp_path: Path) -> None:
    save_volume(tmp_path / "a.nii", np.random.rand(8, 8, 8) * 100, np.eye(4))
    summary = inspect(tmp_path).summary
    assert summary is not None and summary.lines()[0] == "1 volume of 1 subject"
    assert summary.notes[0].startswith("1 volume without a named subject: ")
