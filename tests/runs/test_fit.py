"""Every fittable game reaches the training loop and samples from the averaged weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan import (
    GAN,
    HingeGAN,
    LeastSquaresGAN,
    NonSaturatingGAN,
    WassersteinClip,
    WassersteinGP,
)
from fastgan.errors import ConfigError, StateError
from fastgan.gans import find_objective
from fastgan.runs.fit import FittableGAN
from fastgan.train import RunFolder

SMALL: dict[str, Any] = {
    "latent_dim": 3,
    "generator_channels": (4, 4),
    "critic_channels": (4, 4),
    "critic_steps": 1,
}


@dataclass
class Batch:
    volumes: torch.Tensor
    labels: torch.Tensor | None
    index: torch.Tensor


class Noise:
    """Twelve labelled volumes of noise."""

    shape = (4, 8, 4)
    channels = 1
    spacing = (1.0, 1.0, 1.0)
    classes = ("a", "b")
    prior = np.array([0.5, 0.5])
    normalisation: dict[str, Any] = {}  # noqa: RUF012
    fingerprint = "0" * 64

    def __len__(self) -> int:
        return 12

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        index = torch.from_numpy(rng.integers(0, 12, batch_size))
        volumes = np.random.default_rng(0).standard_normal((12, 1, *self.shape), dtype=np.float32)
        chosen = torch.from_numpy(volumes)[index].tanh()
        return Batch(chosen, index % 2, index)


GAMES = [GAN, NonSaturatingGAN, LeastSquaresGAN, HingeGAN, WassersteinClip, WassersteinGP]
WATCHED = {
    GAN: {"d_real", "d_fake", "jensen_shannon"},
    NonSaturatingGAN: {"d_real", "d_fake", "jensen_shannon", "penalty", "gradient_norm"},
    LeastSquaresGAN: {"d_real", "d_fake", "le_cam"},
    HingeGAN: {"margin_real", "margin_fake", "total_variation"},
    WassersteinClip: {"wasserstein"},
    WassersteinGP: {"wasserstein", "penalty", "gradient_norm", "balance_ratio"},
}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("game", GAMES)
def test_fit_then_sample(game: type[FittableGAN], conditional: bool, tmp_path: Path) -> None:
    gan = game(seed=5, **SMALL)
    run = gan.fit(
        Noise(), steps=2, out=tmp_path, conditional=conditional, batch_size=4, device="cpu"
    )
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
    watched = {f"critic/{name}" for name in WATCHED[game]} | {"generator/loss"}
    assert watched <= set(rows[-1])
    assert ("critic/score_gap/a" in rows[-1]) == conditional
    label = 1 if conditional else None
    volumes = gan.sample(3, label, np.random.default_rng(0))
    assert volumes.shape == (3, 1, 4, 8, 4)
    assert torch.equal(volumes, gan.sample(3, label, np.random.default_rng(0)))


@pytest.mark.parametrize("game", GAMES)
def test_the_game_is_what_its_name_says(game: type[FittableGAN], tmp_path: Path) -> None:
    gan = game(**SMALL)
    run = gan.fit(Noise(), steps=1, out=tmp_path, batch_size=4, device="cpu", lr_critic=1e-3)
    config = RunFolder(run.path).config()
    assert config.name == game.run_name
    assert config.train.lr_critic == 1e-3
    assert find_objective(config.gan.objective) is find_objective(str(game.fixed["objective"]))
    bounds = (config.gan.penalty, config.model.spectral_norm, config.gan.weight_clip)
    assert (
        bounds
        == {
            GAN: ("none", False, 0.0),
            NonSaturatingGAN: ("r1", False, 0.0),
            LeastSquaresGAN: ("none", False, 0.0),
            HingeGAN: ("none", True, 0.0),
            WassersteinClip: ("none", False, 0.01),
            WassersteinGP: ("wgan-gp", False, 0.0),
        }[game]
    )
    assert config.train.betas == ((0.0, 0.99) if game is WassersteinClip else (0.0, 0.9))


def test_defaults_give_way() -> None:
    assert GAN().settings["critic_steps"] == 1
    assert GAN(critic_steps=3, penalty="r1").settings == {"critic_steps": 3, "penalty": "r1"}


@pytest.mark.parametrize("game", GAMES)
def test_rejects_sampling_before_fit(game: type[FittableGAN]) -> None:
    with pytest.raises(StateError, match=f"^{game.__name__}: fit it before"):
        game().sample(1)


@pytest.mark.parametrize(
    ("game", "settings", "message"),
    [
        (WassersteinGP, {"latent_dims": 3}, "did you mean 'latent_dim'"),
        (WassersteinGP, {"objective": "hinge"}, "objective is 'wgan-gp' and cannot be set"),
        (WassersteinClip, {"penalty": "r1"}, "penalty is 'none' and cannot be set"),
        (WassersteinGP, {"weight_clip": 0.01}, "weight_clip is 0.0 and cannot be set"),
        (FittableGAN, {}, "no game of its own"),
    ],
)
def test_rejects_settings(game: type[FittableGAN], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        game(**settings)


def test_rejects_settings_that_clash_when_fitted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="spectral_norm or weight_clip"):
        WassersteinClip(**SMALL, weight_clip=0.0).fit(Noise(), steps=1, out=tmp_path)
    with pytest.raises(ConfigError, match="without classes"):
        gan = GAN(**SMALL)
        gan.fit(Noise(), steps=1, out=tmp_path, conditional=False, device="cpu")
        gan.sample(2, 1)
