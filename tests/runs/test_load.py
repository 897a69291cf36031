"""`fastgan.load`: the volumes of `fastgan generate`, in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastgan
from fastgan.cli.main import main
from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_volume
from fastgan.errors import BadFile, ConfigError
from fastgan.train import RunFolder
from tests.runs.conftest import FIT, SMALL


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = DataConfig(source=str(scans), shape=(8, 8, 8), modality="ct", conditional=True)
    out = tmp_path_factory.mktemp("runs")
    dataset = open_dataset(data, "train")
    return fastgan.NonSaturatingGAN(**SMALL).fit(dataset, out=out, **FIT).path


def test_samples_are_what_generate_writes(run: Path, tmp_path: Path) -> None:
    arguments = ["--run", run, "--count", 5, "--seed", 3, "--out", tmp_path / "made"]
    assert main(["generate", *map(str, arguments), "--device", "cpu"]) == 0
    found = fastgan.load(run, device="cpu").sample(5, seed=3)
    assert found.volumes.shape == (5, 1, 8, 8, 8) and found.volumes.dtype == torch.float32
    assert found.units == "HU" and len(found.labels) == 5 and set(found.labels) <= {"a", "b"}
    written = (tmp_path / "made" / "manifest.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in written] == list(found.labels)
    for i, values in enumerate(found.volumes):
        volume = read_volume(tmp_path / "made" / f"volume-{i:05d}.nii.gz")
        assert np.array_equal(volume.array, values[0].numpy())
        assert np.array_equal(volume.affine, found.affine)
    centre = found.affine @ [3.5, 3.5, 3.5, 1.0]
    assert np.allclose(centre, [0.0, 0.0, 0.0, 1.0]) and found.affine[0, 0] == 2.0


def test_class_seed_and_checkpoint(run: Path) -> None:
    game = fastgan.load(str(run), step=1, device="cpu")
    assert game.classes == ("a", "b") and game.shape == (8, 8, 8) and game.spacing == (2, 2, 2)
    ones, again, others = (game.sample(2, "b", seed) for seed in (0, 0, 1))
    assert ones.labels == ("b", "b") and torch.equal(ones.volumes, again.volumes)
    assert not torch.equal(ones.volumes, others.volumes)
    # Volume i does not depend on how many are drawn.
    assert torch.equal(game.sample(1, "b").volumes[0], ones.volumes[0])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda run: fastgan.load(run).sample(0), ConfigError, "count must be >= 1"),
        (lambda run: fastgan.load(run).sample(1, seed=-1), ConfigError, "seed >= 0"),
        (lambda run: fastgan.load(run).sample(1, "c"), ConfigError, "no class 'c'"),
        (lambda run: fastgan.load(run, step=9), BadFile, "ckpt-9"),
        (lambda run: fastgan.load(run / "samples"), BadFile, "not a run folder"),
        (lambda run: fastgan.load(run, device="cuda:9"), ConfigError, "cuda:9"),
    ],
    ids=["count", "seed", "class", "step", "folder", "device"],
)
def test_load_refuses(run: Path, call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(run)


@pytest.mark.parametrize("given", ["folder", "manifest", "configuration"])
def test_fit_takes_a_path(given: str, scans: Path, tmp_path: Path) -> None:
    path = scans
    if given == "manifest":
        path = tmp_path / "manifest.csv"
        lines = (f"{file},{file.parent.name}" for file in sorted(scans.rglob("*.nii.gz")))
        path.write_text("\n".join(["path,label", *lines]) + "\n")
    elif given == "configuration":
        path = tmp_path / "c.yaml"
        path.write_text(
            f"data: {{source: {scans}, shape: [8, 8, 8], modality: ct, conditional: true}}\n"
        )
    gan = fastgan.GAN(**SMALL)
    made = gan.fit(path if given == "folder" else str(path), out=tmp_path / "runs", **FIT)
    config = RunFolder(made.path).config()
    assert config.data.shape == (8, 8, 8) and config.data.modality == "ct"
    assert Path(config.data.source) == (path if given != "configuration" else scans)
    assert config.data.conditional == (given != "folder")
    assert gan.sample(2).shape == (2, 1, 8, 8, 8)
    assert fastgan.load(made.path).sample(2).units == "HU"
    with pytest.raises(ConfigError, match="absent"):
        fastgan.GAN(**SMALL).fit(tmp_path / "absent", out=tmp_path / "runs", **FIT)
