"""Manifests, folders and splits: strict in what they accept, the same at every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastgan.data import Item, holdout_subjects, read_manifest, scan_folder
from fastgan.data.manifest import read_dataset_json, subject_of
from fastgan.data.splits import split_items
from fastgan.errors import BadFile, ConfigError, UnsafeFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/sub-02_T1w.nii.gz", "a/sub-01_T1w.nii.gz", "a/x.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_text("no volume")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder / "manifest.csv"


def test_reads_every_column(folder: Path) -> None:
    path = write(
        folder,
        "path,label,subject,site,scanner,split,modality\n"
        "a/x.nii,bad,p1,Rome,Prisma,train,MR\n\n"
        "b/sub-02_T1w.nii.gz,,,,,Test,\n",
    )
    first, second = read_manifest(path)
    assert first == Item(str(folder / "a/x.nii"), "bad", "p1", "Rome", "Prisma", "train", "mr")
    assert second == Item(str(folder / "b/sub-02_T1w.nii.gz"), None, "sub-02", split="holdout")


def test_a_file_that_names_no_subject_counts_as_one_and_says_so(folder: Path) -> None:
    path = write(folder, "path,subject\na/x.nii,\na/sub-01_T1w.nii.gz,\nb/sub-02_T1w.nii.gz,me\n")
    want = [("x", False), ("sub-01", True), ("me", True)]
    assert [(item.subject, item.subject_named) for item in read_manifest(path)] == want
    scanned = {item.subject: item.subject_named for item in scan_folder(folder)}
    assert scanned == {"x": False, "sub-01": True, "sub-02": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path\n", "no rows"),
        ("path,lable\na/x.nii,1\n", "did you mean 'label'"),
        ("file,label\na/x.nii,1\n", "column 'file': did you mean 'path'"),
        ("path,Patient ID\na/x.nii,1\n", "column 'Patient ID': did you mean 'subject'"),
        ("path,,age\na/x.nii,1,2\n", "no name"),
        ("Path,path\na/x.nii,a/x.nii\n", "none may repeat"),
        ("path,path\na/x.nii,a/x.nii\n", "none may repeat"),
        ("label\n1\n", "'path' is needed"),
        ("path,label\na/x.nii\n", "line 2: 1 values"),
        ("path\na/none.nii\n", "line 2: path: .*none.nii does not exist"),
        ("path\na/x.nii\na/../a/x.nii\n", "line 3: path: .* again, first in line 2"),
        ("path,split\na/x.nii,later\n", "split: 'later'"),
        ("path,modality\na/x.nii,pet\n", "modality: 'pet'"),
        ("path,subject\n,p1\n", "path: empty"),
    ],
)
def test_rejects_manifest(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        read_manifest(write(folder, text))


def test_rejects_other_encodings(folder: Path) -> None:
    (folder / "manifest.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(BadFile, match="UTF-8"):
        read_manifest(folder / "manifest.csv")


def test_scans_sorted_and_finds_subjects(folder: Path) -> None:
    items = scan_folder(folder)
    assert [Path(i.path).relative_to(folder).as_posix() for i in items] == [
        "a/sub-01_T1w.nii.gz",
        "a/x.nii",
        "b/sub-02_T1w.nii.gz",
    ]
    assert [i.subject for i in items] == ["sub-01", "x", "sub-02"]
    assert [i.label for i in items] == [None] * 3
    assert [i.label for i in scan_folder(folder, labels_from_folders=True)] == ["a", "a", "b"]


def test_subjects() -> None:
    assert subject_of("sub-7/ses-1/anat/sub-7_ses-1_T1w.nii.gz") == "sub-7"
    assert subject_of("sub-7/ses-1/image.nii") == "sub-7"
    assert subject_of("x/case_012_0000.nii.gz") == "case_012"
    assert subject_of("subject.npy") == "subject"


def test_rejects_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "top.nii").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"manifest\.csv"):
        scan_folder(folder, labels_from_folders=True)
    with pytest.raises(BadFile, match="no such folder"):
        scan_folder(folder / "none")
    (folder / "empty").mkdir()
    with pytest.raises(BadFile, match="no volumes"):
        scan_folder(folder / "empty")
    (folder / "linked").symlink_to(folder / "a")
    with pytest.raises(UnsafeFile, match="linked"):
        scan_folder(folder)


def test_dataset_json(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    for name in ("c_002_0000.nii.gz", "c_001_0000.nii.gz", "c_001_0001.nii.gz"):
        (tmp_path / "imagesTr" / name).write_bytes(b"x")
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}))
    items = read_dataset_json(path)
    assert [(i.subject, i.modality) for i in items] == [("c_001", "ct"), ("c_002", "ct")]
    path.write_text("[1]")
    with pytest.raises(BadFile, match=r"dataset\.json"):
        read_dataset_json(path)


def test_holdout_is_stable_disjoint_and_of_the_size_asked() -> None:
    subjects = [f"p{i}" for i in range(2000)]
    held = holdout_subjects(subjects, 0.2)
    assert held == holdout_subjects(reversed(subjects), 0.2)
    # Binomial: four standard deviations are 72.
    assert abs(len(held) - 400) < 72
    assert holdout_subjects(subjects[:1000], 0.2) == held & set(subjects[:1000])
    assert holdout_subjects(subjects, 0.1) < held
    assert holdout_subjects(subjects, 0.0) == set()


def test_holdout_of_few_subjects_leaves_both_sides_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        subjects = [f"s{rng.integers(10**6)}" for _ in range(2)]
        assert len(holdout_subjects(subjects, rng.uniform(0.01, 0.99))) == len(set(subjects)) - 1
    assert holdout_subjects(["only"], 0.01) == set()


def test_split_keeps_subjects_together() -> None:
    items = [Item(f"{i}.nii", None, f"p{i // 3}") for i in range(60)]
    filled = split_items(items, 0.3)
    train = {i.subject for i in filled if i.split == "train"}
    held = {i.subject for i in filled if i.split == "holdout"}
    assert train.isdisjoint(held) and len(train | held) == 20


def test_given_split_wins_and_is_checked() -> None:
    items = [Item("1", None, "p", split="train"), Item("2", None, "q", split="holdout")]
    assert split_items(items, 0.9) == items
    with pytest.raises(ConfigError, match="subject 'p' is in train and in holdout"):
        split_items([*items, Item("3", None, "p", split="holdout")], 0.2)
    with pytest.raises(ConfigError, match="1 of 3 rows name none"):
        split_items([*items, Item("3", None, "r")], 0.2)
