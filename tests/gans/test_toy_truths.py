"""Games small enough to be solved by hand: the critic's loss must have the known optimum."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastgan.gans import AdversarialGAN, LabelPrior, Penalty
from fastgan.random import Draws

DOUBLE = torch.float64


class Point(nn.Module):
    """Generates one point, whatever the latent."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(at, dtype=DOUBLE))
        self.latent_dim, self.channels, self.shape = 1, 1, (1, 1, 1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.at.expand(z.shape[0], 1, 1, 1, 1)


class Line(nn.Module):
    """f(x) = w x + b, or a table of scores by label."""

    def __init__(self, w: float, scores: list[float] | None = None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=DOUBLE))
        self.scores = nn.Parameter(torch.tensor(scores or [0.0], dtype=DOUBLE))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        score = self.w * x.flatten(1).sum(1)
        return score + (0 if labels is None else self.scores[labels])


def points(at: float, batch: int = 4) -> Tensor:
    return torch.full((batch, 1, 1, 1, 1), at, dtype=DOUBLE)


def critic_gradient(gan: AdversarialGAN, real: Tensor) -> tuple[float, dict[str, Tensor]]:
    z = torch.zeros(real.shape[0], 1, dtype=DOUBLE)
    loss, metrics = gan.critic_loss(real, z, None, rng=np.random.default_rng(0))
    critic = gan.modules["critic"]
    assert isinstance(critic, Line)
    (g,) = torch.autograd.grad(loss, critic.w)
    return g.item(), metrics


@pytest.mark.parametrize("one_sided", [False, True])
@pytest.mark.parametrize(("distance", "weight"), [(1.0, 10.0), (3.0, 10.0), (0.5, 0.1)])
def test_wgan_gp_slope_between_two_points(distance: float, weight: float, one_sided: bool) -> None:
    """The optimum is 1 + d / (2 lambda), not 1, and there the balance identity holds."""
    slope = 1 + distance / (2 * weight)
    gan = AdversarialGAN(Point(0.0), Line(slope), penalty=Penalty("wgan-gp", weight, one_sided))
    g, metrics = critic_gradient(gan, points(distance))
    assert g == pytest.approx(0.0, abs=1e-12)
    assert metrics["wasserstein"].item() == pytest.approx(slope * distance)
    assert metrics["balance_gap"].item() == pytest.approx(metrics["balance_penalty"].item())
    assert metrics["balance_ratio"].item() == pytest.approx(1.0)


def test_balance_is_off_away_from_the_optimum() -> None:
    _, metrics = critic_gradient(AdversarialGAN(Point(0.0), Line(2.0)), points(1.0))
    assert metrics["balance_ratio"].item() == pytest.approx(2.0 / 40.0)
    # Slope 1: nothing to balance, and no division by zero.
    _, metrics = critic_gradient(AdversarialGAN(Point(0.0), Line(1.0)), points(1.0))
    assert metrics["balance_ratio"].item() == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_dirac_gan_with_r1_has_the_known_eigenvalues(gamma: float) -> None:
    """-gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4) of the training's vector field."""
    penalty = Penalty("r1", gamma) if gamma else Penalty("none")

    def field(theta: float, w: float) -> Tensor:
        generator, critic = Point(theta), Line(w)
        gan = AdversarialGAN(generator, critic, objective="minimax", penalty=penalty)
        z, rng = torch.zeros(1, 1, dtype=DOUBLE), np.random.default_rng(0)
        loss, _ = gan.critic_loss(points(0.0, 1), z, None, rng=rng, penalised=gamma > 0)
        (g_w,) = torch.autograd.grad(loss, critic.w)
        (g_theta,) = torch.autograd.grad(gan.generator_loss(z, None, rng=rng)[0], generator.at)
        return -torch.stack([g_theta, g_w])

    h = 1e-5
    columns = [
        (field(h, 0.0) - field(-h, 0.0)) / (2 * h),
        (field(0.0, h) - field(0.0, -h)) / (2 * h),
    ]
    found = torch.linalg.eigvals(torch.stack(columns, dim=1))
    root = torch.tensor(complex(gamma**2 / 4 - 1 / 4)).sqrt()
    expected = sorted(
        [-gamma / 2 + root.item(), -gamma / 2 - root.item()], key=lambda v: (v.real, v.imag)
    )
    assert sorted(found.tolist(), key=lambda v: (round(v.real, 6), v.imag)) == pytest.approx(
        expected, abs=1e-6
    )


def run_dirac(gan: AdversarialGAN, steps: int, rate: float) -> list[float]:
    """Distance to the equilibrium after each step of plain gradient descent through the phases."""
    batch = SimpleNamespace(volumes=points(0.0, 1), labels=None)
    radii = []
    for step in range(steps):
        for phase in gan.phases(step, lambda _purpose: batch, _DoubleDraws(0)):
            (parameter,) = (
                gan.modules[phase.updates[0]].parameters()
                if phase.name == "generator"
                else (gan.modules["critic"].w,)
            )
            (g,) = torch.autograd.grad(phase.loss()[0], parameter)
            with torch.no_grad():
                parameter -= rate * g
        radii.append(math.hypot(gan.modules["generator"].at.item(), gan.modules["critic"].w.item()))
    return radii


class _DoubleDraws(Draws):
    def normal(self, *args: object, **kwargs: object) -> Tensor:
        return super().normal(*args, **kwargs).double()  # type: ignore[arg-type]


def test_dirac_gan_alternates() -> None:
    """Alternating updates stay on a closed orbit; simultaneous ones would spiral outwards."""
    gan = AdversarialGAN(
        Point(0.02), Line(0.0), objective="minimax", penalty=Penalty("none"), critic_steps=1
    )
    radii = run_dirac(gan, 400, rate=0.5)
    # Simultaneous: (1 + 0.25^2)^(1/2) a step, a factor of 1.8e5 over the run.
    assert max(radii) < 0.02 * 1.4
    assert max(radii[-60:]) == pytest.approx(max(radii[:60]), rel=0.02)


def test_dirac_gan_converges_with_r1() -> None:
    gan = AdversarialGAN(
        Point(0.02), Line(0.0), objective="minimax", penalty=Penalty("r1", 1.0), critic_steps=1
    )
    assert run_dirac(gan, 200, rate=0.2)[-1] < 1e-5


def test_label_prior_mismatch_is_what_a_critic_sees() -> None:
    """D = p(c) / (p(c) + q(c)): with the right prior the best critic says 1/2 for every label."""
    p = torch.tensor([0.75, 0.25], dtype=DOUBLE)
    real_labels = torch.tensor([0, 0, 0, 1])
    fakes = {
        "right": real_labels,
        "uniform": torch.tensor([0, 1, 0, 1]),
    }
    for kind, fake_labels in fakes.items():
        q = torch.bincount(fake_labels, minlength=2) / 4
        critic = Line(0.0, (p / q).log().tolist())
        gan = AdversarialGAN(
            Point(0.0),
            critic,
            objective="minimax",
            penalty=Penalty("none"),
            labels=LabelPrior(("a", "b"), [3, 1]),
        )
        on_real = critic(points(0.0), real_labels)
        on_fake = critic(points(0.0), fake_labels)
        (g,) = torch.autograd.grad(gan.objective.critic_loss(on_real, on_fake), critic.scores)
        torch.testing.assert_close(g, torch.zeros(2, dtype=DOUBLE), rtol=0, atol=1e-12)
        bound = gan.objective.metrics(on_real, on_fake)["jensen_shannon"].item()
        assert (bound < 1e-12) == (kind == "right")
