"""A cyclegan in the real loop: resumed bit for bit with its pools, and its translators loaded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import Config, parse
from fastgan.data import Unpaired, save_volume
from fastgan.errors import ConfigError, NumericsError, StateError
from fastgan.train import RunFolder, checkpoint, describe, fit, load_translator
from fastgan.train.build import data_of, variant_of
from fastgan.train.progress import Progress

STEPS = 9
POOL = 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Two folders of noise, another window for each domain, and networks of a few weights."""
    root, rng = tmp_path_factory.mktemp("domains"), np.random.default_rng(0)
    for domain, top in (("a", 1.0), ("b", 4.0)):
        (root / domain).mkdir()
        for i in range(3):
            volume = rng.uniform(0.0, top, (10, 10, 10)).astype(np.float32)
            save_volume(root / domain / f"{i}.nii.gz", volume, np.eye(4))
    content: dict[str, Any] = {
        "name": "cycle",
        "data": {
            "source": str(root / "a"),
            "source_b": str(root / "b"),
            "window_b": [0.0, 4.0],
            "modality": "map",
            "modality_b": "map",
            "shape": [8, 8, 8],
            "sampling": "patch",
            "holdout": 0.0,
            "classic": ["flip"],
        },
        "model": {
            "translator_channels": [4, 6],
            "translator_blocks": 1,
            "patch_critic_channels": [4, 6],
            "fold": [2, 2, 2],
        },
        "gan": {"variant": "cyclegan", "pool_size": POOL},
        "train": {
            "steps": STEPS,
            "batch_size": 2,
            "device": "cpu",
            "deterministic": True,
            "checkpoint_every": 3,
            "sample_every": 4,
            "log_every": 1,
            "ema_decay": 0.9,
        },
    }
    return parse(content)


def run(config: Config, out: Path, resume: Path | None = None, steps: int = STEPS) -> RunFolder:
    config = config.model_copy(deep=True)
    config.train.steps = steps
    data = data_of(config, "train")
    variant = variant_of(config, describe(data))
    if resume is not None:
        with torch.no_grad():
            # Nothing of the fresh variant may survive the restoring, its pools included.
            for module in variant.modules.values():
                for tensor in module.state_dict().values():
                    tensor.fill_(3)
    quiet = Progress(steps, stream=io.StringIO())
    return fit(variant, data, config, out=out, resume=resume, progress=quiet)


@pytest.fixture(scope="module")
def whole(config: Config, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(config, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop", [1, 2, 5], ids=["filling", "nearly full", "exchanging"])
def test_resumed_equals_uninterrupted_with_its_pools(
    tiny: Any, config: Config, whole: RunFolder, tmp_path: Path, stop: int
) -> None:
    cut = run(config, tmp_path, steps=stop)
    filled = checkpoint.newest(cut.path).parts["pool_A"]["filled"]
    assert filled == min(2 * stop, POOL)
    run(config, tmp_path, resume=cut.path)
    found, expected = tiny.rows(cut.path), tiny.rows(whole.path)
    # The end of the first part is a step that the whole run draws no pictures of.
    assert [r for r in found if r in expected] == expected
    assert all(r["step"] == stop and "generator/loss" not in r for r in found if r not in expected)
    tiny.same_state(cut.path, whole.path)
    for picture in (whole.path / "samples").iterdir():
        assert (cut.path / "samples" / picture.name).read_bytes() == picture.read_bytes()


def test_what_a_run_holds(config: Config, whole: RunFolder) -> None:
    found = checkpoint.newest(whole.path)
    modules = {"G_AB", "G_BA", "D_A", "D_B", "pool_A", "pool_B"}
    averages = {"ema.G_AB", "ema.G_BA"}
    assert found.parts.keys() == modules | averages | {"optimiser.generator", "optimiser.critic"}
    pool = found.parts["pool_B"]["volumes"]
    assert pool.shape == (POOL, 1, 8, 8, 8) and pool.abs().amax((1, 2, 3, 4)).min() > 0
    *_, last, seen = map(json.loads, (whole.path / "metrics.jsonl").read_text().splitlines())
    names = ("adversarial_AB", "adversarial_BA", "cycle_A", "cycle_B", "identity_A", "identity_B")
    scores = [f"critic/score_{kind}_{d}" for kind in ("real", "fake") for d in "AB"]
    for name in (*(f"generator/{n}" for n in names), *scores):
        assert isinstance(last[name], float)
    # Noise shows no air around a body, so body and background say nothing.
    assert seen["step"] == STEPS and seen["pictures/body_dice_AB"] is None
    assert seen["pictures/alarm/inverted_AB"] in (0.0, 0.5, 1.0)
    assert 0.0 < seen["pictures/mutual_information_BA"] <= 1.0
    record = whole.data()
    assert record["normalisation"]["high"] == 1.0 and record["b"]["normalisation"]["high"] == 4.0
    assert record["b"]["shape"] == [8, 8, 8] and record["b"]["spacing"] == [1.0, 1.0, 1.0]
    data = data_of(config, "train")
    assert isinstance(data, Unpaired) and record["fingerprint"] == data.fingerprint


@pytest.mark.parametrize(("direction", "name"), [("A_to_B", "G_AB"), ("B_to_A", "G_BA")])
def test_load_translator_gives_the_average(whole: RunFolder, direction: str, name: str) -> None:
    found = checkpoint.newest(whole.path)
    translator = load_translator(whole, found, direction)
    assert not translator.training and translator.stride == (4, 4, 4)
    for key, tensor in translator.state_dict().items():
        assert torch.equal(tensor, found.parts[f"ema.{name}"][key])
    with torch.no_grad():
        assert translator(torch.zeros(1, 1, 12, 8, 4)).shape == (1, 1, 12, 8, 4)


def test_alarms_are_told(config: Config, tmp_path: Path) -> None:
    """Windows of 8^3 of maps: one modality, so a negative is one whether air is seen or not."""
    config = config.model_copy(deep=True)
    config.train.steps = 1
    data = data_of(config, "train")
    variant = variant_of(config, describe(data))
    negative = torch.nn.Conv3d(1, 1, 1, bias=False)
    torch.nn.init.constant_(negative.weight, -1.0)
    variant.modules["G_AB"] = negative
    lines = io.StringIO()
    folder = fit(variant, data, config, out=tmp_path, progress=Progress(1, stream=lines))
    told = [line for line in lines.getvalue().splitlines() if line.startswith("alarm: inverted_AB")]
    assert told == [f"alarm: inverted_AB in 100% of the volumes shown in {folder.path}/samples/"
                    "step-0000001.png"]  # fmt: skip


def test_load_translator_refuses(
    tiny: Any, whole: RunFolder, tmp_path: Path, quiet: Progress
) -> None:
    found = checkpoint.newest(whole.path)
    with pytest.raises(ConfigError, match="did you mean 'A_to_B'"):
        load_translator(whole, found, "A_to_b")
    plain = fit(
        tiny.TinyVariant(), tiny.TinyDataset(), tiny.tiny_config(steps=1), out=tmp_path,
        progress=quiet,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="translates nothing; use fastgan generate"):
        load_translator(plain, checkpoint.newest(plain.path), "A_to_B")
    found.parts["ema.G_BA"].pop("head.bias")
    with pytest.raises(StateError, match=r"head.bias: missing"):
        load_translator(whole, found, "A_to_B")


def test_resume_with_another_domain_b_is_refused(
    config: Config, whole: RunFolder, tmp_path: Path
) -> None:
    other = config.model_copy(deep=True)
    other.data.window_b = (0.0, 5.0)
    with pytest.raises(StateError, match=r"data.window_b.*data.fingerprint"):
        run(other, tmp_path, resume=whole.path)


def test_nan_is_skipped_and_does_not_reach_the_checkpoint(config: Config, tmp_path: Path) -> None:
    config = config.model_copy(deep=True)
    config.train.steps, config.train.non_finite = 3, "skip"
    data = data_of(config, "train")

    class Poisoned:
        def __getattr__(self, name: str) -> Any:
            return getattr(data, name)

        def __len__(self) -> int:
            return len(data)

        def sample(self, batch_size: int, rng: np.random.Generator) -> Any:
            batch = data.sample(batch_size, rng)
            batch.volumes[0, 0, 0, 0, 0] = float("nan")
            return batch

    quiet = Progress(3, stream=io.StringIO())
    record = describe(data)
    folder = fit(variant_of(config, record), Poisoned(), config, out=tmp_path, progress=quiet)
    found = checkpoint.newest(folder.path)
    assert found.step == 3 and found.counters["skipped"]["generator"] == 3
    config.train.non_finite = "stop"
    with pytest.raises(NumericsError, match=r"step 1, phase generator.*unpaired \[\["):
        fit(variant_of(config, record), Poisoned(), config, out=tmp_path, progress=quiet)
