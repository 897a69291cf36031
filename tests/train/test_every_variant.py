"""Every variant trains on the bundled nodules without NaN and resumes bit for bit.

A few steps by default; `make variants` trains 200 (FASTGAN_VARIANT_STEPS).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import Config, load, parse
from fastgan.data import open_dataset
from fastgan.train import describe, fit
from fastgan.train.build import variant_of

STEPS = int(os.environ.get("FASTGAN_VARIANT_STEPS", "4"))
GAMES: dict[str, dict[str, Any]] = {
    "minimax": {"objective": "minimax", "penalty": "none"},
    "non-saturating": {"objective": "non-saturating", "penalty": "none"},
    "non-saturating-r1": {
        "objective": "non-saturating",
        "penalty": "r1",
        "penalty_weight": 1.0,
        "penalty_interval": 3,
    },
    "least-squares": {"objective": "least-squares", "penalty": "none"},
    "hinge": {"objective": "hinge", "penalty": "none", "spectral_norm": True},
    "wgan-clip": {"objective": "wgan", "penalty": "none", "weight_clip": 0.01},
    "wgan-gp": {"objective": "wgan-gp", "penalty": "wgan-gp"},
    "wgan-spectral": {"objective": "wgan", "penalty": "none", "spectral_norm": True},
}


def config(game: dict[str, Any], *, conditional: bool, steps: int) -> Config:
    gan = {k: v for k, v in game.items() if k != "spectral_norm"}
    return parse(
        {
            "name": "variant",
            "data": {
                "source": "lidc-nodules",
                "modality": "mask",
                "holdout": 0.3,
                "conditional": conditional,
            },
            "model": {
                "latent_dim": 8,
                "generator_channels": [8, 4],
                "critic_channels": [4, 8],
                "fold": [4, 4, 4],
                "spectral_norm": game.get("spectral_norm", False),
            },
            "gan": {**gan, "critic_steps": 2},
            "train": {
                "steps": steps,
                "batch_size": 4,
                "lr_generator": 1e-3,
                "lr_critic": 1e-3,
                "device": "cpu",
                "deterministic": True,
                "log_every": 1,
                "sample_every": steps,
                "checkpoint_every": max(1, steps // 2),
                "keep_checkpoints": 3,
            },
        }
    )


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "conditional"])
def conditional(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def dataset(conditional: bool, tmp_path_factory: pytest.TempPathFactory) -> Any:
    game = config(GAMES["minimax"], conditional=conditional, steps=1)
    return open_dataset(game.data, "train", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", GAMES)
def test_trains_and_resumes(
    name: str, conditional: bool, dataset: Any, tiny: Any, tmp_path: Path, quiet: Any
) -> None:
    def train(steps: int, resume: Path | None = None) -> Path:
        settings = config(GAMES[name], conditional=conditional, steps=steps)
        gan = variant_of(settings, describe(dataset))
        if resume is not None:
            with torch.no_grad():
                # Nothing of the fresh variant may survive the restoring.
                for module in gan.modules.values():
                    for parameter in module.parameters():
                        parameter.normal_()
        run = fit(gan, dataset, settings, out=tmp_path, resume=resume, progress=quiet)
        for module in gan.modules.values():
            assert all(p.isfinite().all() for p in module.parameters())
        return run.path

    whole = train(STEPS)
    # As a kill after the checkpoint half way would have left it.
    killed = tmp_path / f"killed-{whole.name}"
    shutil.copytree(whole, killed)
    for folder in killed.glob("ckpt-*"):
        if int(folder.name.removeprefix("ckpt-")) > STEPS // 2:
            shutil.rmtree(folder)
    train(STEPS, resume=killed)
    found = tiny.rows(whole)
    assert [row["step"] for row in found] == list(range(1, STEPS + 1))
    for row in found:
        # A class that is missing from a batch has no score; nothing else may be missing.
        absent = {k for k, v in row.items() if v is None or not np.isfinite(v)}
        assert all(k.startswith("critic/score_gap/") for k in absent)
    assert not {f"skipped/{phase}" for phase in ("critic", "generator")} & set(found[-1])
    assert tiny.rows(killed) == found
    tiny.same_state(killed, whole)


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("nodules_*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_build(path: Path) -> None:
    """Every configuration gives a variant whose generator draws volumes of its shape."""
    settings = load(path)
    classes = ["benign", "malignant"]
    data = {"shape": settings.data.shape, "channels": 1, "classes": classes, "prior": [0.5, 0.5]}
    gan = variant_of(settings, data)
    volumes = gan.sample(1, None, np.random.default_rng(0))
    assert volumes.shape == (1, 1, *settings.data.shape)
    assert gan.num_classes == (2 if settings.data.conditional else 0)
    assert settings.name == path.stem.replace("_", "-")
