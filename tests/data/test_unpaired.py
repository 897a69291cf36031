"""Two unpaired domains: independent draws, splits of their own, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import DataConfig
from fastgan.data import Unpaired, open_dataset, open_unpaired, save_volume
from fastgan.errors import BadFile, ConfigError, CorruptFile
from fastgan.random import Shard

SHAPE = (4, 6, 8)


def fill(folder: Path, count: int, *, spacing: float = 1.0, top: float = 1.0, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for i in range(count):
        volume = rng.uniform(0.0, top, SHAPE).astype(np.float32)
        save_volume(folder / f"{folder.name}{i}.nii.gz", volume, np.diag([spacing] * 3 + [1.0]))
    return str(folder)


def settings(a: str, b: str | None, **changes: Any) -> DataConfig:
    given = {"source": a, "source_b": b, "shape": SHAPE, "modality": "map", "modality_b": "map"}
    return DataConfig(**(given | changes))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    return fill(tmp_path / "t1", 6), fill(tmp_path / "gm", 8, top=50.0, seed=1)


def test_each_domain_has_its_own_facts(folders: tuple[str, str]) -> None:
    config = settings(*folders, window_b=(0.0, 50.0), holdout=0.3)
    data = open_unpaired(config, "train")
    alone = open_dataset(settings(folders[0], None, holdout=0.3), "train")
    assert len(data) == len(alone) and data.items == alone.items
    assert data.normalisation["high"] == 1.0 and data.b.normalisation["high"] == 50.0
    assert data.normalisation["method"] == "unit" and data.b.normalisation["method"] == "window"
    assert data.a.fingerprint == alone.fingerprint
    held = open_unpaired(config, "holdout")
    for train, holdout in ((data.a, held.a), (data.b, held.b)):
        subjects = [{item.subject for item in split.items} for split in (train, holdout)]
        assert subjects[0] and subjects[1] and not subjects[0] & subjects[1]
    assert len(data.a) + len(held.a) == 6 and len(data.b) + len(held.b) == 8


def test_draws_repeat_and_are_independent(folders: tuple[str, str]) -> None:
    data = open_unpaired(settings(*folders, window_b=(0.0, 50.0), holdout=0.0), "train")
    batch = data.sample(400, np.random.default_rng(0))
    again = data.sample(400, np.random.default_rng(0))
    assert torch.equal(batch.volumes_b, again.volumes_b) and torch.equal(batch.index, again.index)
    assert batch.volumes.shape == batch.volumes_b.shape == (400, 1, *SHAPE)
    assert batch.labels is None and batch.index.shape == (400, 2)
    part = data.sample(400, np.random.default_rng(0), Shard(1, 2))
    assert torch.equal(part.volumes, batch.volumes[200:])
    assert torch.equal(part.volumes_b, batch.volumes_b[200:])
    assert torch.equal(part.index, batch.index)
    for i in range(5):
        at_a, at_b = batch.index[i].tolist()
        assert np.array_equal(batch.volumes[i].numpy(), data.a.volume(at_a))
        assert np.array_equal(batch.volumes_b[i].numpy(), data.b.volume(at_b))
    # Every combination of a volume of A with one of B comes up.
    assert len({tuple(pair) for pair in batch.index.tolist()}) == 6 * 8


def test_fingerprint_covers_both(folders: tuple[str, str], tmp_path: Path) -> None:
    config = settings(*folders, window_b=(0.0, 50.0))
    first = open_unpaired(config, "train").fingerprint
    assert open_unpaired(config, "train").fingerprint == first
    assert open_dataset(config, "train").fingerprint != first
    for change in ({"window": (0.0, 2.0)}, {"window_b": (0.0, 60.0)}):
        assert open_unpaired(config.model_copy(update=change), "train").fingerprint != first
    other = fill(tmp_path / "other", 8, top=50.0, seed=2)
    changed = config.model_copy(update={"source_b": other})
    assert open_unpaired(changed, "train").fingerprint != first
    swapped = settings(folders[1], folders[0], window=(0.0, 50.0))
    assert open_unpaired(swapped, "train").fingerprint != first


def test_refuses_other_spacing(folders: tuple[str, str], tmp_path: Path) -> None:
    coarse = fill(tmp_path / "coarse", 3, spacing=2.0)
    with pytest.raises(ConfigError, match=r"spacing 2 x 2 x 2 mm, domain A has 1 x 1 x 1 mm; set"):
        open_unpaired(settings(folders[0], coarse), "train")
    both = open_unpaired(settings(folders[0], coarse, spacing=(1.0, 1.0, 1.0)), "train")
    assert both.spacing == both.b.spacing == (1.0, 1.0, 1.0)


def test_refuses_other_shape_or_channels(folders: tuple[str, str]) -> None:
    a = open_dataset(settings(folders[0], None), "train")
    for change, message in (
        ({"shape": (4, 6, 7)}, r"shape \(4, 6, 7\), domain A has \(4, 6, 8\)"),
        ({"channels": 2}, r"channels 2, domain A has 1"),
        ({"classes": ("x", "y")}, "data.conditional"),
    ):
        b = open_dataset(settings(folders[0], None), "train")
        for name, value in change.items():
            setattr(b, name, value)
        with pytest.raises(ConfigError, match=message):
            Unpaired(a, b)


def test_refuses_volumes_smaller_than_the_patch(folders: tuple[str, str]) -> None:
    config = settings(*folders, shape=(4, 6, 9), sampling="patch", window_b=(0.0, 50.0))
    with pytest.raises(ConfigError, match=r"data.shape: \(4, 6, 9\) does not fit"):
        open_unpaired(config, "train")


def test_says_that_domain_b_is_meant(folders: tuple[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadFile, match=r"^domain B \(data.source_b .*empty\): .*no volumes") as e:
        open_unpaired(settings(folders[0], str(empty)), "train")
    assert str(empty) in str(e.value)
    with pytest.raises(BadFile, match="no volumes") as e:
        open_unpaired(settings(str(empty), folders[0]), "train")
    assert "domain B" not in str(e.value)
    with pytest.raises(ConfigError, match=r"domain B .*is no bundled set, file or folder"):
        open_unpaired(settings(folders[0], "nowhere"), "train")
    with pytest.raises(BadFile, match=r"domain B .*0 to 1 is meant"):
        open_unpaired(settings(*folders), "train")
    cut = tmp_path / "gm" / "gm3.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(CorruptFile, match=r"domain B .*gm3"):
        open_unpaired(settings(*folders, window_b=(0.0, 50.0), holdout=0.0), "train")


def test_refuses_a_missing_domain_b(folders: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"data.source_b: missing"):
        open_unpaired(settings(folders[0], None), "train")
