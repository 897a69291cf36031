"""Who a volume is of: names, headers or the folders that files lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.config import DataConfig
from fastgan.data import open_dataset
from fastgan.data.inspect import inspect
from fastgan.data.listing import Selection
from fastgan.data.sources import find_items
from fastgan.data.summary import summarise
from fastgan.errors import ConfigError
from tests.data.dicom_files import write_series
from tests.data.test_listing import volumes

FOLDERS = Selection(subjects="folders")


def test_folders_name_the_subjects_where_asked(tmp_path: Path) -> None:
    volumes(tmp_path, "Ann/T1.nii", "Ann/later/T1.nii", "Bob/sub-07_T1.nii")
    items = find_items(tmp_path, selection=FOLDERS)
    assert [(item.subject, item.subject_named) for item in items] == [
        ("Ann", True),
        ("Ann", True),
        ("Bob", True),
    ]
    assert [item.subject for item in find_items(tmp_path)] == ["T1", "T1", "sub-07"]


def test_folders_win_over_the_patient_of_a_header(tmp_path: Path) -> None:
    """Exports without names often call everybody the same."""
    for number, person in enumerate(("Ann", "Bob")):
        voxels = np.arange(4 * 6 * 5, dtype=np.int16).reshape(4, 6, 5)
        uid = f"1.2.826.{number}"
        write_series(tmp_path / person, voxels, SeriesInstanceUID=uid, PatientID="anonymous")
    assert len({item.subject for item in find_items(tmp_path)}) == 1
    assert [item.subject for item in find_items(tmp_path, selection=FOLDERS)] == ["Ann", "Bob"]


def test_folders_that_cannot_name_subjects_are_refused(tmp_path: Path) -> None:
    volumes(tmp_path, "Ann/a.nii", "loose.nii")
    with pytest.raises(ConfigError, match=r"data.subjects: .*loose.nii lies in none"):
        find_items(tmp_path, selection=FOLDERS)
    (tmp_path / "loose.nii").unlink()
    with pytest.raises(ConfigError, match=r"data.subjects: .*both classes and subjects"):
        find_items(tmp_path, labels=True, selection=FOLDERS)
    (tmp_path / "manifest.csv").write_text("path\nAnn/a.nii\n")
    with pytest.raises(ConfigError, match=r"data.subjects: .*column subject"):
        find_items(tmp_path, selection=FOLDERS)


def test_several_files_in_each_folder_are_pointed_out(tmp_path: Path) -> None:
    volumes(tmp_path, *(f"p{i // 2}/scan{i}.nii" for i in range(6)))
    notes = " ".join(summarise(find_items(tmp_path), 0.2).notes)
    assert "6 volumes without a named subject: each counts as a person of its own" in notes
    assert "--subjects folders" in notes
    assert not summarise(find_items(tmp_path, selection=FOLDERS), 0.2).notes
    alone = volumes(tmp_path / "one", "x.nii")
    assert "1 volume without a named subject" in " ".join(summarise(find_items(alone), 0.2).notes)


def test_people_whom_an_export_named_alike_are_told_apart_by_folders(tmp_path: Path) -> None:
    for i in range(3):
        voxels = np.random.default_rng(i).integers(0, 99, (5, 8, 9)).astype(np.int16)
        write_series(tmp_path / f"p{i}", voxels, PatientID="ANON", SeriesInstanceUID=f"1.2.{i}")
    found = find_items(tmp_path)
    assert len({item.subject for item in found}) == 1
    assert any("--subjects folders" in note for note in summarise(found, 0.2).notes)
    apart = find_items(tmp_path, selection=FOLDERS)
    assert [item.subject for item in apart] == ["p0", "p1", "p2"]
    assert not summarise(apart, 0.2).notes


def test_folders_of_files_with_the_same_names_are_proposed_as_people(tmp_path: Path) -> None:
    volumes(tmp_path, *(f"case {i}/{what}.nii" for i in range(5) for what in ("pre", "post")))
    found = inspect(tmp_path)
    assert found.proposal["data"]["subjects"] == "folders"
    assert found.summary is not None and found.summary.subjects == 5
    assert any("--subjects names" in note for note in found.notes)
    asked = inspect(tmp_path, selection=Selection(subjects="names"))
    assert asked.proposal["data"]["subjects"] == "names"
    assert asked.summary is not None and asked.summary.subjects == 2
    assert any("which makes 2" in note for note in asked.notes)


def test_folders_of_contrasts_and_classes_are_nobody(tmp_path: Path) -> None:
    volumes(tmp_path, *(f"{what}/case{i}.nii" for i in range(5) for what in ("ill", "well")))
    found = inspect(tmp_path)
    assert "subjects" not in found.proposal["data"]
    assert found.summary is not None and found.summary.subjects == 5


def test_a_run_holds_out_whole_folders(tmp_path: Path) -> None:
    volumes(tmp_path, *(f"case {i}/{what}.nii" for i in range(8) for what in ("pre", "post")))
    config = DataConfig(source=str(tmp_path), shape=(8, 8, 8), subjects="folders")
    train, held = (
        {item.subject for item in open_dataset(config, split).items}
        for split in ("train", "holdout")
    )
    assert train and held and not train & held and len(train | held) == 8
