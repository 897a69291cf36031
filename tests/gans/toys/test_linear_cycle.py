"""Two one-dimensional domains: which translators the game settles at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastgan.config import parse
from fastgan.data import UnpairedBatch
from tests.gans.linear_cycle import ONE, Quadratic, linear


class Normals:
    """All of two one-dimensional domains in every batch: standard deviations `sx` and `sy`."""

    shape, channels, spacing, fingerprint = (1, 1, 1), 1, (1.0, 1.0, 1.0), "f" * 64
    classes: tuple[str, ...] = ()
    prior = np.zeros(0)
    normalisation: dict[str, Any] = {"low": -1.0, "high": 1.0}  # noqa: RUF012

    def __init__(self, sx: float, sy: float) -> None:
        quantiles = torch.distributions.Normal(0, 1).icdf((torch.arange(64) + 0.5) / 64)
        self.quantiles = quantiles.view(-1, *ONE) / quantiles.std(unbiased=False)
        self.sx, self.sy = sx, sy

    def __len__(self) -> int:
        return 64

    def sample(self, batch_size: int, rng: np.random.Generator) -> UnpairedBatch:
        index = torch.arange(64).view(-1, 1).expand(-1, 2)
        return UnpairedBatch(self.sx * self.quantiles, None, index, self.sy * self.quantiles)


def trained(
    start: float, data: Normals, out: Path, steps: int = 300, **settings: Any
) -> tuple[float, float]:
    """The two factors after training by the real loop."""
    from fastgan.train import fit
    from fastgan.train.progress import Progress

    gan = linear(start, start, critics=(Quadratic(), Quadratic()), pool_size=0, **settings)
    gan.optimisers = {name: type(s)(0.05, 0.5, 0.9) for name, s in gan.optimisers.items()}
    train = {"steps": steps, "device": "cpu", "lr_decay": "linear", "log_every": steps}
    every = {"checkpoint_every": steps, "sample_every": steps}
    quiet = Progress(steps, stream=io.StringIO())
    fit(gan, data, parse({"train": train | every}), out=out, progress=quiet)
    modules: Any = gan.modules
    return modules["G_AB"].factor.item(), modules["G_BA"].factor.item()


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.7, -0.7])
def test_linear_toy_truth(start: float, tmp_path: Path) -> None:
    """Least squares and cycle alone: a = +- sy / sx and b = 1 / a; the start picks the sign."""
    data = Normals(0.8, 1.2)
    a, b = trained(start, data, tmp_path, lambda_cycle=0.1, lambda_identity=0.0)
    sign = np.sign(start)
    assert a == pytest.approx(sign * 1.5, abs=1e-2)
    assert b == pytest.approx(sign / 1.5, abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "sign"), [(0.0, -1.0), (1.0, 1.0)], ids=["without", "with"])
def test_identity_loss_picks_the_sign(weight: float, sign: float, tmp_path: Path) -> None:
    """Both signs leave no adversarial and no cycle loss; the start is on the wrong side of 0."""
    data = Normals(1.0, 1.0)
    a, b = trained(-0.1, data, tmp_path, lambda_cycle=0.2, lambda_identity=weight)
    assert (a, b) == (pytest.approx(sign, abs=1e-2), pytest.approx(sign, abs=1e-2))
