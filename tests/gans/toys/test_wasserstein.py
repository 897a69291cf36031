"""Wasserstein distances known in closed form, against what a critic of the real code logs."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.gans import AdversarialGAN, AdversarialSettings

# (mean, deviation) of one normal and another; distance.
PAIRS = [
    ((0.0, 1.0), (1.0, 1.0), 1.0),
    ((0.0, 1.0), (0.0, 2.0), 0.79788456),
    ((0.0, 1.0), (2.0, 1.5), 2.00000715),
]
COUNT = 2001


def distance_of_normals(mean: float, deviation: float) -> float:
    """E|mean + deviation z|: quantiles of two normals differ by a linear function of z."""
    if deviation == 0.0:
        return abs(mean)
    ratio = mean / abs(deviation)
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    return 2 * abs(deviation) * density + mean * math.erf(ratio / math.sqrt(2))


@pytest.mark.parametrize(("first", "second", "distance"), PAIRS)
def test_closed_form(first: tuple, second: tuple, distance: float, toys: ModuleType) -> None:
    exact = distance_of_normals(second[0] - first[0], second[1] - first[1])
    assert exact == pytest.approx(distance, abs=1e-8)
    # Another way: the quantile functions, on a grid that leaves out 1e-6 of the tails.
    a, b = (toys.normal(*normal, 1_000_000) for normal in (first, second))
    assert (a - b).abs().mean().item() == pytest.approx(distance, abs=2e-6)


@pytest.mark.parametrize(("first", "second", "distance"), PAIRS)
def test_a_clipped_critic_reads_the_distance(
    first: tuple, second: tuple, distance: float, toys: ModuleType, tmp_path: Path
) -> None:
    """Slopes clipped to [-1, 1] are exactly the 1-Lipschitz functions of a line."""
    generator = toys.Fixed(toys.normal(*second, COUNT))
    critic = toys.Slopes(-10.0, 10.0, 40)
    gan = AdversarialGAN(
        generator,
        critic,
        # The generator stays where it is.
        AdversarialSettings(penalty="none", weight_clip=1.0, lr_critic=0.2, lr_generator=1e-12),
    )
    run = toys.training(gan, toys.Constant(toys.normal(*first, COUNT)), tmp_path)
    for _ in range(6):
        run.advance()
    reached = critic.slopes.detach()[10:30].abs()
    assert critic.slopes.abs().max().item() == 1.0
    assert reached.min().item() == pytest.approx(1.0, abs=1e-6)
    assert run.metrics()["critic/wasserstein"] == pytest.approx(distance, abs=2e-3)


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize(("distance", "weight"), [(1.0, 10.0), (3.0, 10.0), (0.5, 0.1)])
def test_penalised_slope_between_two_points(
    distance: float, weight: float, one_sided: bool, toys: ModuleType
) -> None:
    """The optimum is 1 + d / (2 lambda), not 1, and there the balance identity holds."""
    slope = 1 + distance / (2 * weight)
    settings = AdversarialSettings(penalty_weight=weight, one_sided=one_sided)
    gan = AdversarialGAN(toys.point(0.0), toys.Line(slope), settings)
    g, metrics = critic_gradient(gan, toys.as_volumes(torch.full((4,), distance).double()))
    assert g.item() == pytest.approx(0.0, abs=1e-12)
    assert metrics["wasserstein"].item() == pytest.approx(slope * distance)
    assert metrics["balance_gap"].item() == pytest.approx(metrics["balance_penalty"].item())
    assert metrics["balance_ratio"].item() == pytest.approx(1.0)


def critic_gradient(gan: AdversarialGAN, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradient of the critic's first parameter, and the metrics."""
    loss, metrics = gan.critic_loss(
        real,
        torch.zeros(real.shape[0], 1),
        None,
        rng=np.random.default_rng(0),
        share=torch.linspace(0.1, 0.9, len(real), dtype=real.dtype),
    )
    (g,) = torch.autograd.grad(loss, next(gan.modules["critic"].parameters()))
    return g, metrics


def test_balance_is_off_away_from_the_optimum(toys: ModuleType) -> None:
    real = toys.as_volumes(torch.ones(4).double())
    _, metrics = critic_gradient(AdversarialGAN(toys.point(0.0), toys.Line(2.0)), real)
    assert metrics["balance_ratio"].item() == pytest.approx(2.0 / 40.0)
    # Slope 1: nothing to balance, and no division by zero.
    _, metrics = critic_gradient(AdversarialGAN(toys.point(0.0), toys.Line(1.0)), real)
    assert metrics["balance_ratio"].item() == 0.0


def mixture_density(x: Tensor) -> Tensor:
    """Of a y + (1 - a) z with y ~ N(2, 1), z ~ N(0, 1), a uniform: what the penalty sees."""
    a = (torch.arange(2000, dtype=torch.float64)[:, None] + 0.5) / 2000
    deviation = (a**2 + (1 - a) ** 2).sqrt()
    return (
        torch.exp(-(((x - 2 * a) / deviation) ** 2) / 2)
        .div(deviation * math.sqrt(2 * math.pi))
        .mean(0)
    )


def excess_of_cdf(x: Tensor) -> Tensor:
    """P(z <= x) - P(y <= x)."""
    return (torch.erf(x / 2**0.5) - torch.erf((x - 2) / 2**0.5)) / 2


def test_penalised_normals_on_paper() -> None:
    """f' = 1 + delta / (2 lambda r): E|f'| = 1.1 and a gap of 2.210345, not the distance 2."""
    x = torch.linspace(-6, 8, 2801, dtype=torch.float64)
    r, delta = mixture_density(x), excess_of_cdf(x)
    slope = 1 + delta / (20 * r)

    def integral(values: Tensor) -> float:
        return float(torch.trapezoid(values, x))

    assert integral(delta) == pytest.approx(2.0, abs=1e-6)
    assert integral(r * slope) == pytest.approx(1.1, abs=1e-6)
    assert integral(delta * slope) == pytest.approx(2.210345, abs=1e-6)
    assert 20 * integral(r * slope * (slope - 1)) == pytest.approx(2.210345, abs=1e-6)


@pytest.mark.parametrize("balanced", [True, False])
def test_penalised_normals_by_the_real_loss(balanced: bool, toys: ModuleType) -> None:
    """The loss is quadratic in the slopes, so one Newton step finds the exact optimum."""
    count = 60_000
    shuffle = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    real = toys.as_volumes(toys.normal(2.0, 1.0, count)[shuffle])
    critic = toys.Slopes(-4.0, 6.0, 40)
    gan = AdversarialGAN(toys.Fixed(toys.normal(0.0, 1.0, count)), critic)
    slope_at_one, _ = critic_gradient(gan, real)
    with torch.no_grad():
        critic.slopes += 1.0
    slope_at_two, _ = critic_gradient(gan, real)
    curvature = slope_at_two - slope_at_one
    optimum = torch.where(curvature > 0, 1.0 - slope_at_one / curvature, 1.0)
    with torch.no_grad():
        critic.slopes.copy_(optimum if balanced else torch.ones(40))
    left, metrics = critic_gradient(gan, real)
    found = {name: value.item() for name, value in metrics.items()}
    if not balanced:
        # The 1-Lipschitz critic: the true distance, and not where training stops.
        assert found["wasserstein"] == pytest.approx(2.0, abs=1e-3)
        assert left.abs().max().item() > 0.01
        return
    assert left[curvature > 0].abs().max().item() < 1e-12
    assert found["gradient_norm"] == pytest.approx(1.1, abs=2e-3)
    assert found["wasserstein"] == pytest.approx(2.210345, abs=1e-2)
    assert found["balance_ratio"] == pytest.approx(1.0, abs=2e-3)
