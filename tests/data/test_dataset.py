"""Datasets from files: what is drawn, what is refused, and that both repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import DataConfig
from fastgan.data import open_dataset, save_volume
from fastgan.errors import BadFile, ConfigError
from fastgan.random import Shard

SHAPE = (8, 10, 12)


def fill(folder: Path, count: int = 10, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Path:
    """CT-like volumes with one marked voxel each, and a manifest: two labels, five subjects."""
    rng = np.random.default_rng(0)
    lines = ["path,label,subject,site,scanner,split,modality"]
    for i in range(count):
        array = rng.uniform(-500.0, 500.0, SHAPE).astype(np.float32)
        save_volume(folder / f"v{i}.nii.gz", array, np.diag([*spacing, 1.0]))
        label = "rare" if i % 5 == 0 else "usual"
        split = "holdout" if i >= count - 4 else "train"
        if i >= count - 4:
            label = ("rare", "usual")[i % 2]
        lines.append(f"v{i}.nii.gz,{label},p{i},Rome,Prisma,{split},ct")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def settings(folder: Path, **changes: Any) -> DataConfig:
    return DataConfig(**({"source": str(folder), "shape": SHAPE, "modality": "ct"} | changes))


def test_whole_volumes(tmp_path: Path) -> None:
    data = open_dataset(settings(fill(tmp_path)), "train")
    assert len(data) == 6 and data.channels == 1 and data.shape == SHAPE
    assert data.classes == () and data.prior.shape == (0,)
    assert data.spacing == (1.0, 1.0, 1.0)
    assert data.items[0].site == "Rome" and data.items[0].scanner == "Prisma"
    batch = data.sample(4, np.random.default_rng(1))
    again = data.sample(4, np.random.default_rng(1))
    assert batch.volumes.shape == (4, 1, *SHAPE) and batch.volumes.dtype == torch.float32
    assert batch.volumes.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(batch.volumes, again.volumes) and torch.equal(batch.index, again.index)
    assert batch.labels is None
    for volume, i in zip(batch.volumes, batch.index, strict=True):
        assert np.array_equal(volume.numpy(), data.volume(int(i)))
    assert json.loads(json.dumps(data.normalisation)) == data.normalisation


@pytest.mark.parametrize("sampling", ["patch", "whole"])
def test_parts_of_a_batch_are_its_rows(tmp_path: Path, sampling: str) -> None:
    fill(tmp_path)
    changes = {"shape": (4, 4, 3)} if sampling == "patch" else {}
    config = settings(
        tmp_path,
        sampling=sampling,
        conditional=True,
        sampler="balanced",
        classic=("flip", "rotate", "intensity"),
        **changes,
    )
    data = open_dataset(config, "train")
    whole = data.sample(6, np.random.default_rng(2))
    assert whole.labels is not None
    read = data._crop
    count = 0

    def counting(i: int, corner: Any) -> np.ndarray:
        nonlocal count
        count += 1
        return read(i, corner)

    data._crop = counting  # type: ignore[method-assign]
    for index in range(3):
        part = data.sample(6, np.random.default_rng(2), Shard(index, 3))
        rows = slice(2 * index, 2 * index + 2)
        assert torch.equal(part.volumes, whole.volumes[rows])
        assert part.labels is not None and torch.equal(part.labels, whole.labels[rows])
        assert torch.equal(part.index, whole.index)
    assert count == 6


def test_denormalise_gives_the_files_units(tmp_path: Path) -> None:
    from fastgan.data import read_volume

    data = open_dataset(settings(fill(tmp_path)), "train")
    read = read_volume(data.items[2].path)
    assert np.abs(data.denormalise(data.volume(2))[0] - read.array).max() < 0.04
    assert np.array_equal(data.affine(2), read.affine)
    assert data.denormalise(torch.ones(1)).item() == 1000.0


def test_crop_and_pad(tmp_path: Path) -> None:
    fill(tmp_path)
    full = open_dataset(settings(tmp_path), "train")
    small = open_dataset(settings(tmp_path, shape=(4, 6, 8)), "train")
    large = open_dataset(settings(tmp_path, shape=(12, 14, 16)), "train")
    assert np.array_equal(small.volume(0), full.volume(0)[:, 2:6, 2:8, 2:10])
    assert np.array_equal(large.volume(0)[:, 2:10, 2:12, 2:14], full.volume(0))
    assert large.volume(0)[0, 0, 0, 0] == -1.0


def test_patches(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = open_dataset(settings(tmp_path), "train")
    data = open_dataset(settings(tmp_path, shape=(4, 4, 4), sampling="patch"), "train")
    batch = data.sample(40, np.random.default_rng(0))
    corners = set()
    for patch, i in zip(batch.volumes.numpy(), batch.index, strict=True):
        full = whole.volume(int(i))[0]
        hits = np.argwhere(full[:5, :7, :9] == patch[0, 0, 0, 0])
        corners.update(map(tuple, hits.tolist()))
        assert any(
            np.array_equal(full[a : a + 4, b : b + 4, c : c + 4], patch[0]) for a, b, c in hits
        )
    assert len(corners) > 20
    with pytest.raises(ConfigError, match="shape"):
        open_dataset(settings(tmp_path, shape=(9, 4, 4), sampling="patch"), "train")


def test_samplers(tmp_path: Path) -> None:
    fill(tmp_path)
    natural = open_dataset(settings(tmp_path, conditional=True), "train")
    assert natural.classes == ("rare", "usual")
    assert np.allclose(natural.prior, [2 / 6, 4 / 6])
    balanced = open_dataset(settings(tmp_path, conditional=True, sampler="balanced"), "train")
    for data, share in ((natural, 4 / 6), (balanced, 0.5)):
        batch = data.sample(600, np.random.default_rng(0))
        assert batch.labels is not None and batch.labels.dtype == torch.int64
        # Four standard deviations of 600 draws are 0.08.
        assert abs(batch.labels.float().mean().item() - share) < 0.08
        names = [data.items[int(i)].label for i in batch.index]
        assert names == [data.classes[int(k)] for k in batch.labels]


def test_classic_acts_on_train_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    config = settings(tmp_path, classic=("flip", "rotate", "intensity"))
    train, held = open_dataset(config, "train"), open_dataset(config, "holdout")
    batch = train.sample(4, np.random.default_rng(0))
    assert not np.array_equal(batch.volumes[0].numpy(), train.volume(int(batch.index[0])))
    assert torch.equal(batch.volumes, train.sample(4, np.random.default_rng(0)).volumes)
    batch = held.sample(4, np.random.default_rng(0))
    assert np.array_equal(batch.volumes[0].numpy(), held.volume(int(batch.index[0])))


def test_cache_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    cache = tmp_path / "cache"
    plain = open_dataset(settings(tmp_path, spacing=(2.0, 2.0, 2.0)), "train")
    for _ in range(2):
        kept = open_dataset(settings(tmp_path, spacing=(2.0, 2.0, 2.0)), "train", cache_dir=cache)
        assert kept.fingerprint == plain.fingerprint
        assert all(np.array_equal(kept.volume(i), plain.volume(i)) for i in range(len(plain)))
    assert len(list(cache.glob("*.npy"))) == 6


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    fill(tmp_path)
    before = open_dataset(settings(tmp_path), "train").fingerprint
    assert open_dataset(settings(tmp_path), "holdout").fingerprint != before
    assert open_dataset(settings(tmp_path, spacing=(2, 2, 2)), "train").fingerprint != before
    save_volume(tmp_path / "v0.nii.gz", np.ones(SHAPE), np.eye(4), overwrite=True)
    assert open_dataset(settings(tmp_path), "train").fingerprint != before


def test_rejects_labels(tmp_path: Path) -> None:
    fill(tmp_path)
    text = (tmp_path / "manifest.csv").read_text()
    (tmp_path / "manifest.csv").write_text(text.replace(",usual,p1", ",,p1"))
    with pytest.raises(ConfigError, match=r"1 of 10 volumes have no label.*v1"):
        open_dataset(settings(tmp_path, conditional=True), "train")
    (tmp_path / "manifest.csv").write_text(text.replace("usual", "rare"))
    with pytest.raises(ConfigError, match="two classes"):
        open_dataset(settings(tmp_path, conditional=True), "train")
    (tmp_path / "manifest.csv").write_text(text.replace("usual,p1,", "odd,p1,"))
    with pytest.raises(ConfigError, match="class 'odd' in this split"):
        open_dataset(settings(tmp_path, conditional=True), "holdout")
    with pytest.raises(ConfigError, match="balanced"):
        open_dataset(settings(tmp_path, sampler="balanced"), "train")


def test_rejects_sources(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'lidc-nodules'"):
        open_dataset(settings(Path("lidc-nodule")), "train")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(BadFile, match=r"data\.source"):
        open_dataset(settings(tmp_path / "x.txt"), "train")


def test_rejects_unequal_spacing_without_a_target(tmp_path: Path) -> None:
    fill(tmp_path, 8)
    save_volume(tmp_path / "v3.nii.gz", np.ones(SHAPE), np.diag([1, 1, 3, 1.0]), overwrite=True)
    with pytest.raises(ConfigError, match=r"files differ.*v3"):
        open_dataset(settings(tmp_path), "train")
    assert open_dataset(settings(tmp_path, spacing=(1, 1, 1)), "train").spacing == (1, 1, 1)


def test_one_bad_file_is_never_skipped(tmp_path: Path) -> None:
    fill(tmp_path)
    content = (tmp_path / "v2.nii.gz").read_bytes()
    (tmp_path / "v2.nii.gz").write_bytes(content[:-3])
    with pytest.raises(BadFile, match="v2"):
        open_dataset(settings(tmp_path), "train")


def test_rejects_an_empty_split(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(ConfigError, match="holdout"):
        open_dataset(settings(tmp_path, holdout=0.0), "holdout")


def test_archives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (12, 8, 8, 8)).astype(np.uint8)
    subjects = np.array([f"p{i // 2}" for i in range(12)])
    np.savez(
        tmp_path / "a.npz",
        volumes=arrays,
        labels=np.arange(12) % 2,
        subjects=subjects,
        spacing=[1.0, 1.0, 2.0],
    )
    config = settings(tmp_path / "a.npz", shape=(8, 8, 8), conditional=True, holdout=0.4)
    train, held = open_dataset(config, "train"), open_dataset(config, "holdout")
    assert len(train) + len(held) == 12 and train.spacing == (1.0, 1.0, 2.0)
    assert {i.subject for i in train.items}.isdisjoint(i.subject for i in held.items)
    place = int(train.items[0].path.rpartition("#")[2])
    assert np.allclose(train.denormalise(train.volume(0))[0], arrays[place], atol=1e-3)
    np.savez(
        tmp_path / "m.npz",
        train_images=arrays[:8],
        test_images=arrays[8:],
        train_labels=np.arange(8) % 2,
        test_labels=np.arange(4) % 2,
    )
    config = settings(tmp_path / "m.npz", shape=(8, 8, 8), conditional=True)
    assert (len(open_dataset(config, "train")), len(open_dataset(config, "holdout"))) == (8, 4)
    np.savez(tmp_path / "f.npz", images=arrays.astype(np.float32) * 4.0)
    data = open_dataset(settings(tmp_path / "f.npz", shape=(6, 8, 8), modality="mr"), "train")
    assert data.volume(0).shape == (1, 6, 8, 8)
    assert 900.0 < data.normalisation["high"] <= 1020.0
    np.savez(tmp_path / "bad.npz", volumes=arrays, labels=np.arange(3))
    with pytest.raises(BadFile, match="labels: 3 values for 12"):
        open_dataset(settings(tmp_path / "bad.npz", shape=(8, 8, 8)), "train")


def test_subset(tmp_path: Path) -> None:
    data = open_dataset(settings(fill(tmp_path), conditional=True), "train")
    part = data.subset([5, 1])
    assert [i.path for i in part.items] == [data.items[5].path, data.items[1].path]
    assert np.array_equal(part.volume(0), data.volume(5))
    assert part.fingerprint != data.fingerprint
    with pytest.raises(ConfigError, match="class 'rare'"):
        data.subset([1, 2])
