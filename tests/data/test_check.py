"""Before the first step every file is read, the held-out ones too, and what is odd is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastgan.config import DataConfig
from fastgan.data import open_dataset, open_unpaired, save_volume
from fastgan.data.check import check_data
from fastgan.data.splits import holdout_subjects
from fastgan.errors import CorruptFile

SHAPE = (8, 8, 8)


def fill(folder: Path, count: int = 6) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(count):
        array = rng.uniform(1.0, 900.0, SHAPE).astype(np.float32)
        save_volume(folder / f"p{i}.nii.gz", array, np.eye(4))
    return folder


def held_out(folder: Path) -> Path:
    names = [path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz")]
    return folder / f"{min(holdout_subjects(names, 0.2))}.nii.gz"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def test_a_damaged_held_out_file_is_found(tmp_path: Path) -> None:
    config = DataConfig(source=str(fill(tmp_path / "v")), shape=SHAPE)
    cut(held_out(tmp_path / "v"))
    training = open_dataset(config, "train")
    with pytest.raises(CorruptFile, match="gzip"):
        check_data(config, training)
    left = config.model_copy(update={"exclude": (held_out(tmp_path / "v").name,)})
    sentences = check_data(left, open_dataset(left, "train"))
    assert any("left out as asked" in sentence for sentence in sentences)


def test_of_both_domains(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a"), fill(tmp_path / "b")
    config = DataConfig(source=str(a), source_b=str(b), shape=SHAPE)
    cut(held_out(b))
    with pytest.raises(CorruptFile, match=f"{b.name}/{held_out(b).name}"):
        check_data(config, open_unpaired(config, "train"))


@pytest.mark.parametrize("cache", [True, False])
def test_tells_by_file_also_from_the_cache(tmp_path: Path, cache: bool) -> None:
    folder = fill(tmp_path / "v")
    body = np.full(SHAPE, -1000, np.int16)
    body[2:6, 2:6, 2:6] = np.random.default_rng(0).integers(0, 80, (4, 4, 4))
    for name in ("p0.nii.gz", held_out(folder).name):
        save_volume(folder / name, body, np.eye(4), overwrite=True)
    (folder / "notes.txt").write_text("x")
    config = DataConfig(source=str(folder), shape=SHAPE)
    where = tmp_path / "cache" if cache else None
    for _ in range(2):
        training = open_dataset(config, "train", cache_dir=where)
        sentences = check_data(config, training, cache_dir=where)
        assert f"{folder}: not read: texts (.txt): 1" in sentences
        told = [s for s in sentences if "looks like CT" in s]
        assert len(told) == 2 and all("is read as mr" in s for s in told)


def test_a_warning_of_many_files_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for i in range(14):
        cube = np.random.default_rng(i).uniform(2.0, 900.0, SHAPE)
        np.save(tmp_path / "v" / f"p{i}.npy", cube)
    config = DataConfig(source=str(tmp_path / "v"), shape=SHAPE)
    sentences = check_data(config, open_dataset(config, "train"))
    told = [sentence for sentence in sentences if "no geometry in the file" in sentence]
    assert len(told) == 11 and "4 more files: no geometry in the file" in told[-1]


def test_nothing_held_out_is_told_and_bundled_sets_need_no_check(tmp_path: Path) -> None:
    config = DataConfig(source=str(fill(tmp_path / "v")), shape=SHAPE, holdout=0.0)
    sentences = check_data(config, open_dataset(config, "train"))
    assert any("an audit will not be possible" in sentence for sentence in sentences)
    bundled = DataConfig()
    assert check_data(bundled, open_dataset(bundled, "train")) == []
