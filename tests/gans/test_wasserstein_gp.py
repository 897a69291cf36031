"""WassersteinGP reaches the training loop and samples from the averaged weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError, StateError
from fastgan.gans import WassersteinGP

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


@pytest.mark.parametrize("conditional", [False, True])
def test_fit_then_sample(conditional: bool, tmp_path: Path) -> None:
    gan = WassersteinGP(seed=5, **SMALL)
    run = gan.fit(
        Noise(), steps=2, out=tmp_path, conditional=conditional, batch_size=4, device="cpu"
    )
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
    assert {"critic/balance_ratio", "critic/wasserstein", "generator/loss"} <= set(rows[-1])
    assert ("critic/score_gap/a" in rows[-1]) == conditional
    label = 1 if conditional else None
    volumes = gan.sample(3, label, np.random.default_rng(0))
    assert volumes.shape == (3, 1, 4, 8, 4)
    assert torch.equal(volumes, gan.sample(3, label, np.random.default_rng(0)))


def test_rejects_sampling_before_fit() -> None:
    with pytest.raises(StateError, match="fit it before"):
        WassersteinGP().sample(1)


def test_rejects_unknown_setting() -> None:
    with pytest.raises(ConfigError, match="did you mean 'latent_dim'"):
        WassersteinGP(latent_dims=3)
    with pytest.raises(ConfigError, match="'objective' is unknown"):
        WassersteinGP(objective="hinge")
