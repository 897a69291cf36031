"""What an owner measured reaches every cohort by path, or nothing is judged by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.data.manifest import Item
from fastgan.errors import AuditError, BadFile
from fastgan.runs.measured import Measurements


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Two files, one volume of a file of several, and a folder that holds one series."""
    for name in ("a.nii.gz", "b.nii.gz", "4d.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "series").mkdir()
    paths = ("a.nii.gz", "b.nii.gz", "4d.nii.gz#1", "series#1.2.3")
    return [Item(str(tmp_path / p), None, p) for p in paths]


def table(folder: Path, text: str) -> Path:
    path = folder / "lesions.csv"
    path.write_text(text)
    return path


ROWS = "b.nii.gz,2.5,x\n4d.nii.gz#1,3,x\nseries,4,x\n"


def test_columns_of_numbers_come_by_path(tmp_path: Path, items: list[Item]) -> None:
    whole = f"Path,lesion mm,reader\n{tmp_path}/a.nii.gz,1,y\n{ROWS}elsewhere.nii,9,y\n"
    found = Measurements.read(table(tmp_path, whole)).of(items)
    assert list(found) == ["lesion mm"]
    assert found["lesion mm"].tolist() == [1.0, 2.5, 3.0, 4.0]
    assert found["lesion mm"].dtype == np.float64


def test_known_columns_of_a_manifest_measure_nothing(tmp_path: Path, items: list[Item]) -> None:
    text = "path,site,mm\na.nii.gz,1,5\nb.nii.gz,2,6\n"
    assert Measurements.read(table(tmp_path, text)).names == ("mm",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,mm\na.nii.gz,1\n", "no column path"),
        ("path,reader\na.nii.gz,x\n", "no further column holds numbers alone; columns: reader"),
        ("path,mm\na.nii.gz,1\n", "no row for"),
        ("path,mm\na.nii.gz,1\n./a.nii.gz,2\n", r"line 3: path: ./a.nii.gz again"),
        (f"path,mm,reader\na.nii.gz,,y\n{ROWS}", r"mm: no number for .*a.nii.gz \(1 of 4\)"),
        (f"path,mm,reader\n{ROWS}", r"no row for .*a.nii.gz \(1 of 4 volumes have none\)"),
        ("", "empty file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, items, text: str, said: str) -> None:
    with pytest.raises((BadFile, AuditError), match=said):
        Measurements.read(table(tmp_path, text)).of(items)


def test_a_folder_of_two_series_is_no_name_of_one(tmp_path: Path, items: list[Item]) -> None:
    two = [*items, Item(str(tmp_path / "series#9.9"), None, "s")]
    with pytest.raises(AuditError, match=r"no row for .*series#1.2.3 \(2 of 5"):
        Measurements.read(table(tmp_path, f"path,mm,r\na.nii.gz,1,y\n{ROWS}")).of(two)
