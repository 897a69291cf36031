"""Exported networks: the same volumes in other programs, and no file where they differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastgan
from fastgan.config import DataConfig, parse
from fastgan.data import open_dataset, save_volume
from fastgan.data.normalise import denormalise
from fastgan.errors import BadFile, ConfigError, CorruptFile, NumericsError
from fastgan.runs import export as exporting
from fastgan.runs.export import export, load_exported
from fastgan.train import (
    RunFolder,
    checkpoint,
    describe,
    fit,
    load_generator,
    load_translator,
)
from fastgan.train.build import data_of, variant_of
from tests.runs.conftest import FIT, SMALL


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    data = DataConfig(source=str(scans), shape=(8, 8, 8), modality="ct", conditional=True)
    dataset = open_dataset(data, "train")
    gan = fastgan.NonSaturatingGAN(**SMALL, fold=(2, 2, 2), smooth_output=True)
    return RunFolder(gan.fit(dataset, out=tmp_path_factory.mktemp("runs"), **FIT).path)


def _wanted(run: RunFolder, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    game = load_generator(run, checkpoint.newest(run.path))
    with torch.no_grad():
        drawn = game.modules["generator"](z, label).clamp(-1.0, 1.0)
    return denormalise(drawn, run.data()["normalisation"])


# Two lines of each, with nothing of this package but in the first.
LOADED = {
    "safetensors": "from fastgan.runs.export import load_exported\ngenerator = load_exported(path)",
    "torch": "import torch\ngenerator = torch.export.load(path).module()",
    "onnx": "import onnxruntime\ngenerator = onnxruntime.InferenceSession(path)",
}


@pytest.mark.parametrize("kind", LOADED)
def test_loads_in_two_lines_and_gives_the_same(run: RunFolder, tmp_path: Path, kind: str) -> None:
    path = export(run, checkpoint.newest(run.path), tmp_path / "out", kind=kind)
    z, label = torch.randn(1, 2), torch.tensor([1])
    torch.save((z, label), tmp_path / "inputs.pt")
    call = "generator.run(None, {'x': z.numpy(), 'label': label.numpy()})[0]"
    call = call if kind == "onnx" else "generator(z, label).detach().numpy()"
    banned = "" if kind == "safetensors" else "import sys; sys.modules['fastgan'] = None\n"
    code = (
        f"{banned}path = {str(path)!r}\n{LOADED[kind]}\nimport numpy, torch\n"
        f"z, label = torch.load({str(tmp_path / 'inputs.pt')!r})\n"
        f"numpy.save({str(tmp_path / 'out.npy')!r}, {call})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]
    wanted = _wanted(run, z, label).numpy()
    found = np.load(tmp_path / "out.npy")
    assert found.shape == wanted.shape == (1, 1, 8, 8, 8)
    assert np.abs(found - wanted).max() < 1e-4 * np.ptp(wanted)
    about = json.loads((tmp_path / "out" / "export.json").read_bytes())
    assert about["file"] == path.name and about["units"] == "HU"
    assert about["classes"] == ["a", "b"] and about["synthetic"] is True
    assert 0.0 <= about["largest_difference_of_range"] < 1e-4


def test_a_file_that_computes_something_else_is_not_kept(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exporting.FORMATS["torch"]

    def wrong(*arguments: Any) -> Any:
        content, again = honest(*arguments)
        return content, lambda *inputs: again(*inputs) + 1.0

    monkeypatch.setitem(exporting.FORMATS, "torch", wrong)
    with pytest.raises(NumericsError, match="nothing is written"):
        export(run, checkpoint.newest(run.path), tmp_path / "out", kind="torch")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def translating(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root, rng = tmp_path_factory.mktemp("domains"), np.random.default_rng(0)
    for domain in "ab":
        (root / domain).mkdir()
        for i in range(2):
            volume = rng.uniform(0.0, 1.0, (8, 8, 8)).astype(np.float32)
            save_volume(root / domain / f"{i}.nii.gz", volume, np.eye(4))
    places = {"source": str(root / "a"), "source_b": str(root / "b"), "shape": [8, 8, 8]}
    config = parse(
        {
            "name": "cycle",
            "data": places | {"modality": "map", "modality_b": "map", "holdout": 0.0},
            "model": {
                "translator_channels": [4, 6],
                "translator_blocks": 1,
                "patch_critic_channels": [4, 6],
            },
            "gan": {"variant": "cyclegan"},
            "train": {"steps": 1, "batch_size": 1, "device": "cpu"},
        }
    )
    dataset = data_of(config, "train")
    variant = variant_of(config, describe(dataset))
    return fit(variant, dataset, config, out=root / "runs")


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
@pytest.mark.parametrize("direction", ["A_to_B", "B_to_A"])
def test_translators(translating: RunFolder, tmp_path: Path, kind: str, direction: str) -> None:
    found = checkpoint.newest(translating.path)
    with pytest.raises(ConfigError, match="--direction: one of"):
        export(translating, found, tmp_path / "out", kind=kind)
    path = export(translating, found, tmp_path / "out", kind=kind, direction=direction)
    load = load_exported if kind == "safetensors" else lambda p: torch.export.load(p).module()
    x = torch.rand(1, 1, 8, 8, 8) * 2.0 - 1.0
    wanted = load_translator(translating, found, direction)(x)
    assert torch.allclose(load(path)(x), wanted.clamp(-1.0, 1.0), atol=1e-4)


def test_rejects(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = checkpoint.newest(run.path)
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        export(run, found, tmp_path / "o", kind="onxx")
    with pytest.raises(ConfigError, match="only a cyclegan"):
        export(run, found, tmp_path / "o", kind="torch", direction="A_to_B")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(BadFile, match="not an empty folder"):
        export(run, found, tmp_path / "full", kind="safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadFile, match=r"fastgan\[onnx\]"):
        export(run, found, tmp_path / "o", kind="onnx")
    assert not (tmp_path / "o").exists()


def test_damaged_files_are_refused(run: RunFolder, tmp_path: Path) -> None:
    found = checkpoint.newest(run.path)
    path = export(run, found, tmp_path / "out", kind="safetensors")
    content = path.read_bytes()
    for changed in (b"", content[:100], content[:-1], content.replace(b"generator", b"generatox")):
        path.write_bytes(changed)
        with pytest.raises(CorruptFile, match="generator"):
            load_exported(path)
