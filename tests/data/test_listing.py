"""What is found in folders: selections, BIDS, columns, and the names of what is not read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_manifest, read_volume, save_volume
from fastgan.data.columns import Cell, describe_columns, read_table, typed
from fastgan.data.listing import Selection, list_folder, suffix_of
from fastgan.data.manifest import stem_of
from fastgan.data.sources import find_items, list_source
from fastgan.data.summary import mixed_contrasts, summarise
from fastgan.errors import BadFile, ConfigError
from tests.data.dicom_files import write_series


def volumes(folder: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        array = rng.uniform(1.0, 900.0, (8, 8, 8)).astype(np.float32)
        save_volume(folder / name, array, np.eye(4))
    return folder


def names_of(folder: Path, selection: Selection | None = None) -> list[str]:
    items = find_items(folder, selection=selection)
    return [str(Path(item.path).relative_to(folder)) for item in items]


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    volumes(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
        "derivatives/x/sub-01_T1w.nii.gz",
    )
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t31\tF\nsub-02\tn/a\tF\n"
    )
    for sidecar in ("sub-01_T1w.json", "sub-01_dwi.bval", "README"):
        (tmp_path / sidecar).write_text("x")
    return tmp_path


def test_bids(bids: Path) -> None:
    listing = list_folder(bids)
    assert len(listing.items) == 4
    assert listing.unread == {
        "folder of a BIDS data set (derivatives)": 1,
        "JSON files (.json)": 2,
        "directions of diffusion (.bval)": 1,
        "unknown files (no suffix)": 1,
    }
    chosen = list_folder(bids, Selection(suffix="T1w"))
    assert [suffix_of(item.path) for item in chosen.items] == ["T1w"] * 3 and chosen.excluded == 1
    assert [item.subject for item in chosen.items] == ["sub-01", "sub-01", "sub-02"]
    assert [item.columns["session"].value for item in chosen.items] == ["ses-1", "ses-2", "ses-1"]
    assert chosen.items[0].columns["age"] == Cell("number", 31.0)
    assert chosen.items[2].columns["age"] == Cell("number", None)
    assert chosen.items[2].columns["sex"] == Cell("category", "F")
    with pytest.raises(BadFile, match=r"no file ends in 'T1'; there are T1w \(3\), T2w \(1\)"):
        list_folder(bids, Selection(suffix="T1"))
    mixed = mixed_contrasts(listing.items)
    assert mixed is not None and "T1w (3) and T2w (1)" in mixed and "subject sub-01" in mixed
    assert mixed_contrasts(chosen.items) is None


def test_contrasts_in_names_that_are_not_bids(tmp_path: Path) -> None:
    volumes(tmp_path, "BraTS_001_t1ce.nii.gz", "BraTS_001_flair.nii.gz", "IXI012-HH-1211-T1.nii")
    mixed = mixed_contrasts(find_items(tmp_path))
    assert mixed is not None and "FLAIR (1)" in mixed and "T1w with contrast agent (1)" in mixed
    assert names_of(tmp_path, Selection(suffix="T1")) == ["IXI012-HH-1211-T1.nii"]


def test_exclude(tmp_path: Path) -> None:
    volumes(tmp_path, "a/one.nii", "a/two.nii", "b/one.nii", "odd [1].nii")
    for pattern, left in (
        ("a", ["b/one.nii", "odd [1].nii"]),
        ("a/", ["b/one.nii", "odd [1].nii"]),
        ("one.nii", ["a/two.nii", "odd [1].nii"]),
        ("a/o*", ["a/two.nii", "b/one.nii", "odd [1].nii"]),
        ("odd [[]1].nii", ["a/one.nii", "a/two.nii", "b/one.nii"]),
    ):
        assert names_of(tmp_path, Selection(exclude=(pattern,))) == left, pattern
    listing = list_source(tmp_path, selection=Selection(exclude=("a", "b")))
    assert listing.notes() == ["left out as asked (exclude, suffix): 3 volumes"]
    with pytest.raises(BadFile, match="leaves out all volumes"):
        list_source(tmp_path, selection=Selection(exclude=("*",)))


def test_each_volume_of_a_series_in_time(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    tmp_path = tmp_path / "volumes"
    tmp_path.mkdir()
    np.save(tmp_path / "four.npy", np.random.default_rng(0).uniform(1, 9, (8, 8, 8, 3)))
    volumes(tmp_path, "three.nii")
    each = find_items(tmp_path, selection=Selection(volume="each"))
    assert [Path(i.path).name for i in each] == [
        "four.npy#0",
        "four.npy#1",
        "four.npy#2",
        "three.nii",
    ]
    assert {item.subject for item in each} == {"four", "three"}
    one = find_items(tmp_path, selection=Selection(volume=1))
    assert [Path(item.path).name for item in one] == ["four.npy#1", "three.nii"]
    settings = {"source": str(tmp_path), "shape": (8, 8, 8), "holdout": 0.0}
    data = open_dataset(DataConfig(**settings, volume="each"), "train", cache_dir=cache)
    assert len(data) == 4
    assert not np.array_equal(data.volume(0), data.volume(1))
    with pytest.raises(BadFile, match="--volume"):
        open_dataset(DataConfig(**settings), "train")


def test_a_manifest_names_volumes_and_series(tmp_path: Path) -> None:
    np.save(tmp_path / "four.npy", np.random.default_rng(0).uniform(1, 9, (8, 8, 8, 3)))
    cube = np.random.default_rng(0).integers(0, 900, (4, 6, 6)).astype(np.int16)
    write_series(tmp_path / "scan", cube, SeriesInstanceUID="1.5")
    for path in write_series(tmp_path / "more", cube, SeriesInstanceUID="1.6"):
        path.rename(tmp_path / "scan" / f"more{path.name}")
    (tmp_path / "manifest.csv").write_text("path\nfour.npy#0\nfour.npy#2\nscan#1.5\nscan#1.6\n")
    items = read_manifest(tmp_path / "manifest.csv")
    assert [item.subject for item in items] == ["four", "four", "scan", "scan"]
    assert [read_volume(item.path).array.shape for item in items] == [(8, 8, 8)] * 2 + [
        (6, 6, 4)
    ] * 2
    stems = [stem_of(item.path) for item in items]
    assert stems[:2] == ["four-0", "four-2"] and len(set(stems)) == 4
    assert "1.5" not in stems[2]


def test_what_a_manifest_does_not_name(tmp_path: Path) -> None:
    volumes(tmp_path, "a.nii", "b.nii", "deep/c.nii")
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "manifest.csv").write_text("path\na.nii\n")
    assert list_source(tmp_path).unread == {
        "volumes or slices that manifest.csv does not name": 2,
        "pictures (.png)": 1,
    }


SHEET = (
    "Path;Label;Age;kVp;Sex;Diagnosis date;Note;\n"
    "a.nii;ill;61,5;120;F;2020-01-03;of A. Smith;\n"
    "b.nii;well;;100;M;2020-01-03;of B. Jones;\n"
    "c.nii;well;58;120;F;2021-11-30;;\n;;;;;;;\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_columns_of_a_hospital_sheet(tmp_path: Path, encoding: str, delimiter: str) -> None:
    volumes(tmp_path, "a.nii", "b.nii", "c.nii")
    text = SHEET.replace("61,5", "61.5") if delimiter == "," else SHEET
    text = text.replace(";", delimiter).replace("\n", "\r\n")
    (tmp_path / "manifest.csv").write_bytes(text.encode(encoding))
    items = read_manifest(tmp_path / "manifest.csv")
    assert [item.label for item in items] == ["ill", "well", "well"]
    assert [item.columns["Age"] for item in items] == [
        Cell("number", 61.5),
        Cell("number", None),
        Cell("number", 58.0),
    ]
    assert items[0].columns["Sex"] == Cell("category", "F")
    assert items[0].columns["Diagnosis date"] == Cell("text", "2020-01-03")
    assert items[2].columns["Note"] == Cell("text", None)
    described = describe_columns(item.columns for item in items)
    assert described["Age"] == {
        "kind": "number",
        "missing": 1,
        "low": 58.0,
        "median": 59.75,
        "high": 61.5,
    }
    assert described["Sex"] == {"kind": "category", "missing": 0, "counts": {"F": 2, "M": 1}}
    # A record may not carry a person's name.
    assert described["Note"] == {"kind": "text", "missing": 1, "distinct": 2}
    assert "Smith" not in json.dumps(described)


def test_names_of_people_are_text_however_often_they_come(tmp_path: Path) -> None:
    volumes(tmp_path, *[f"{i}.nii" for i in range(4)])
    rows = [f"{i}.nii,p{i // 2},{'ab'[i // 2]} Smith,{'FM'[i % 2]}" for i in range(4)]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,subject,name,side", *rows]))
    items = read_manifest(tmp_path / "manifest.csv")
    assert {item.columns["name"].kind for item in items} == {"text"}
    assert {item.columns["side"].kind for item in items} == {"category"}


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('sep=;\n"a";b\n1;"x\ny"\n\n2;z\n')
    table = read_table(path)
    assert table.columns == ("a", "b") and table.rows == (("1", "x\ny"), ("2", "z"))
    path.write_text("only\nvalue\n")
    assert read_table(path).columns == ("only",)
    path.write_bytes("größe\n1\n".encode("latin-1"))
    with pytest.raises(BadFile, match="save it as CSV UTF-8"):
        read_table(path)
    assert [cell.kind for cell in typed(["1", "2", "3"])] == ["number"] * 3
    assert typed(["1,5", "2"], comma=True)[0].value == 1.5
    assert typed(["1,5", "2"])[0].kind == "text"
    assert typed(["a", "a", "NaN"])[2] == Cell("category", None)
    assert typed([str(i % 30) + "x" for i in range(90)])[0].kind == "text"
    assert typed(["inf", "1"])[0].kind == "text"


def test_summary_and_oddities(tmp_path: Path) -> None:
    volumes(tmp_path, *[f"{i}.nii" for i in range(6)])
    rows = [
        ("0.nii", "ill", "p0", "Rome", "train"),
        ("1.nii", "well", "p0", "Rome", "train"),
        ("2.nii", "NaN", "p1", "", "train"),
        ("3.nii", "well", "p2", "Bern", "train"),
        ("4.nii", "ill", "p3", "Bern", "test"),
        ("5.nii", "well", "p4", "Bern", "test"),
    ]
    head = "path,label,subject,site,split"

    def write(lines: list[tuple[str, ...]]) -> Path:
        text = "\n".join([head, *(",".join(line) for line in lines)])
        (tmp_path / "manifest.csv").write_text(text)
        return tmp_path / "manifest.csv"

    found = summarise(read_manifest(write(rows)), 0.2)
    assert found.lines() == [
        "6 volumes of 5 subjects",
        "split: train 4 (3), holdout 2 (2)",
        "class: well 3 (3), ill 2 (2), NaN 1 (1)",
        "site: Bern 3 (3), Rome 2 (1), none 1 (1)",
    ]
    assert found.classes == () and "'NaN' (1)" in " ".join(found.notes)
    config = DataConfig(source=str(tmp_path), shape=(8, 8, 8), conditional=True)
    with pytest.raises(ConfigError, match="label 'NaN' of 1 volumes reads like a missing value"):
        open_dataset(config, "train")
    rows[2] = ("2.nii", "well", "p1", "", "train")
    found = summarise(read_manifest(write(rows)), 0.2)
    assert found.classes == ("ill", "well") and found.problems == ()
    both = [*rows[:5], ("5.nii", "well", "p0", "Bern", "test")]
    assert (
        "'p0' is in train and in holdout" in summarise(read_manifest(write(both)), 0.2).problems[0]
    )
    alone = [(a, "ill", c, d, e) for a, _, c, d, e in rows]
    found = summarise(read_manifest(write(alone)), 0.2)
    assert found.classes == () and "one class alone, ill" in " ".join(found.notes)
    lost = [*rows[:4], ("4.nii", "odd", "p3", "Bern", "test"), rows[5]]
    found = summarise(read_manifest(write(lost)), 0.2)
    assert found.classes == () and "no volume of class odd in train" in " ".join(found.notes)


def test_names_of_modalities_in_any_case() -> None:
    assert DataConfig(modality="CT").modality == "ct"  # type: ignore[arg-type]
    from fastgan import config

    assert config.parse({"data": {"modality": "Mr", "modality_b": "MASK"}}).data.modality == "mr"
    with pytest.raises(ConfigError, match=r"data\.modality"):
        config.parse({"data": {"modality": "pet"}})


def test_archives_have_no_files_to_choose(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", volumes=np.zeros((4, 8, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match=r"data\.exclude: chooses among files"):
        open_dataset(
            DataConfig(source=str(tmp_path / "a.npz"), shape=(8, 8, 8), exclude=("x",)), "train"
        )
