"""Data at 0, generated volumes at d: no overlap at any d."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastgan.gans import AdversarialGAN, AdversarialSettings

SEPARATIONS = [1e-3, 1.0, 100.0]


class Step(nn.Module):
    """The best critic of a logit game: sure of both points, flat around each."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = edge
        self.height = nn.Parameter(torch.tensor(50.0, dtype=torch.float64))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x.flatten(1).sum(1)
        ramp = ((self.edge - x) * 20 / self.edge).clamp(-1.0, 1.0)
        return self.height * ramp


def answer(gan: AdversarialGAN, toys: ModuleType) -> tuple[dict[str, Tensor], float]:
    """The critic's metrics, and the gradient that reaches the generator's position."""
    z, rng = torch.zeros(4, 1), np.random.default_rng(0)
    real = toys.as_volumes(torch.zeros(4).double())
    _, metrics = gan.critic_loss(real, z, None, rng=rng, penalised=False)
    loss, _ = gan.generator_loss(z, None, rng=rng)
    (g,) = torch.autograd.grad(loss, gan.modules["generator"].at)
    return metrics, g.item()


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("objective", ["minimax", "non-saturating"])
def test_jensen_shannon_says_nothing_of_the_way(
    objective: str, separation: float, toys: ModuleType
) -> None:
    gan = AdversarialGAN(
        toys.point(separation),
        Step(separation / 2),
        AdversarialSettings(objective=objective, penalty="none"),
    )
    metrics, g = answer(gan, toys)
    assert metrics["jensen_shannon"].item() == pytest.approx(math.log(2.0), abs=1e-6)
    assert (metrics["d_real"].item(), metrics["d_fake"].item()) == pytest.approx((1.0, 0.0))
    assert g == 0.0


@pytest.mark.parametrize("separation", SEPARATIONS)
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_wasserstein_points_home_from_everywhere(
    side: float, separation: float, toys: ModuleType
) -> None:
    """W1 = d, and the generator's gradient is 1 towards the data at every d."""
    gan = AdversarialGAN(toys.point(side * separation), toys.Line(-side))
    metrics, g = answer(gan, toys)
    assert metrics["wasserstein"].item() == pytest.approx(separation)
    assert g == pytest.approx(side)


@pytest.mark.parametrize(("objective", "alive"), [("minimax", False), ("non-saturating", True)])
def test_a_sure_critic_silences_minimax_alone(
    objective: str, alive: bool, toys: ModuleType
) -> None:
    """Where the critic still slopes: the weight of its slope is D, or 1 - D."""
    gan = AdversarialGAN(
        toys.point(50.0),
        toys.Line(-1.0),
        AdversarialSettings(objective=objective, penalty="none"),
    )
    _, g = answer(gan, toys)
    assert g == pytest.approx(1.0) if alive else 0.0 < g < 1e-20
