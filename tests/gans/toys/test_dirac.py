"""The Dirac-GAN: data at 0, generator at theta, critic w x. Its spiral tells the update order."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.gans import AdamSettings, AdversarialGAN, AdversarialSettings, Phase
from fastgan.train import loop
from fastgan.train.optim import PhaseOptimiser

RATE = 0.1
ZERO = torch.zeros(1, dtype=torch.float64)


class Descent(PhaseOptimiser):
    """Plain gradient descent in the place of Adam, so that a step near the origin is linear."""

    def step(self, skip: Tensor) -> None:
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.data -= self.lr * parameter.grad


class Simultaneous(AdversarialGAN):
    """What the loop must not do: both gradients taken before either update."""

    def phases(self, *arguments: Any) -> Any:
        found = []
        for phase in super().phases(*arguments):
            module = self.modules[phase.name].requires_grad_(True)
            parameters = list(module.parameters())
            found.append((phase, parameters, torch.autograd.grad(phase.loss()[0], parameters)))
        for phase, parameters, gradients in found:

            def surrogate(parameters=parameters, gradients=gradients):
                pairs = zip(parameters, gradients, strict=True)
                return sum((p * g.detach()).sum() for p, g in pairs), {}

            yield Phase(phase.name, phase.updates, surrogate)


def game(
    toys: ModuleType, theta: float, w: float, gamma: float = 0.0, kind: type = AdversarialGAN
) -> AdversarialGAN:
    settings = AdversarialSettings(
        objective="minimax",
        penalty="r1" if gamma else "none",
        penalty_weight=gamma,
        critic_steps=1,
    )
    return kind(toys.point(theta), toys.Line(w), settings)


@pytest.fixture
def step_matrix(toys: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(kind, gamma, rate) -> what one step of the loop does to (theta, w) near the origin."""
    monkeypatch.setattr(loop, "PhaseOptimiser", Descent)

    def matrix(kind: type = AdversarialGAN, gamma: float = 0.0, rate: float = RATE) -> Tensor:
        size, columns = 1e-4, []
        for theta, w in ((size, 0.0), (0.0, size)):
            gan = game(toys, theta, w, gamma, kind)
            for settings in gan.optimisers:
                gan.optimisers[settings] = AdamSettings(rate, 0.0, 0.9)
            toys.training(gan, toys.Constant(ZERO), tmp_path).advance()
            after = [gan.modules["generator"].at.item(), gan.modules["critic"].w.item()]
            columns.append(torch.tensor(after, dtype=torch.float64) / size)
        return torch.stack(columns, dim=1)

    return matrix


def test_the_loop_alternates(step_matrix: Any) -> None:
    """|lambda| = 1: a closed orbit. The generator answers the critic of this very step."""
    found = step_matrix()
    # w' = w - h theta / 2, then theta' = theta + h w' / 2.
    half = RATE / 2
    expected = torch.tensor([[1 - half**2, half], [-half, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.linalg.eigvals(found).abs().tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_simultaneous_updates_would_be_seen(step_matrix: Any) -> None:
    """|lambda| = sqrt(1 + h^2 / 4): an outward spiral."""
    growth = math.sqrt(1 + RATE**2 / 4)
    found = torch.linalg.eigvals(step_matrix(Simultaneous)).abs()
    assert found.tolist() == pytest.approx([growth, growth], abs=1e-6)
    assert growth - 1.0 > 1e-3


def eigenvalues(gamma: float) -> list[complex]:
    root = complex(gamma**2 / 4 - 1 / 4) ** 0.5
    return by_imaginary([-gamma / 2 + root, -gamma / 2 - root])


def by_imaginary(values: list[complex]) -> list[complex]:
    return sorted(values, key=lambda v: (round(v.imag, 4), v.real))


@pytest.mark.parametrize("gamma", [0.5, 3.0])
def test_r1_contracts_as_its_eigenvalues_say(step_matrix: Any, gamma: float) -> None:
    """(lambda - 1) / h -> -gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4) for small steps of the loop."""
    rate = 1e-3
    found = (torch.linalg.eigvals(step_matrix(gamma=gamma, rate=rate)) - 1) / rate
    assert by_imaginary(found.tolist()) == pytest.approx(eigenvalues(gamma), abs=5e-3)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_eigenvalues_of_the_vector_field(toys: ModuleType, gamma: float) -> None:
    """The same without a loop, by differentiating both losses."""

    def field(theta: float, w: float) -> Tensor:
        gan = game(toys, theta, w, gamma)
        z, rng = torch.zeros(1, 1), np.random.default_rng(0)
        real = toys.as_volumes(ZERO)
        loss, _ = gan.critic_loss(real, z, None, rng=rng, penalised=gamma > 0)
        (g_w,) = torch.autograd.grad(loss, gan.modules["critic"].w)
        generator_loss, _ = gan.generator_loss(z, None, rng=rng)
        (g_theta,) = torch.autograd.grad(generator_loss, gan.modules["generator"].at)
        return -torch.stack([g_theta, g_w])

    h = 1e-5
    columns = [
        (field(h, 0.0) - field(-h, 0.0)) / (2 * h),
        (field(0.0, h) - field(0.0, -h)) / (2 * h),
    ]
    found = torch.linalg.eigvals(torch.stack(columns, dim=1))
    # At gamma = 1 the two meet, and the root of an error of 1e-9 is 3e-5.
    expected = eigenvalues(gamma)
    assert by_imaginary(found.tolist()) == pytest.approx(expected, abs=1e-4)


def radii(toys: ModuleType, folder: Path, gamma: float, steps: int, rate: float) -> list[float]:
    """Distance to the equilibrium after each step of the loop."""
    gan = game(toys, 0.02, 0.0, gamma)
    for name in gan.optimisers:
        gan.optimisers[name] = AdamSettings(rate, 0.0, 0.9)
    run, found = toys.training(gan, toys.Constant(ZERO), folder, steps=steps), []
    for _ in range(steps):
        run.advance()
        found.append(math.hypot(gan.modules["generator"].at.item(), gan.modules["critic"].w.item()))
    return found


def test_a_long_orbit(toys: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    """Alternating stays; simultaneous would have grown by (1 + h^2 / 4)^(n / 2) = 428."""
    monkeypatch.setattr(loop, "PhaseOptimiser", Descent)
    found = radii(toys, tmp_path, 0.0, 200, rate=0.5)
    assert max(found) < 0.02 * 1.4
    assert max(found[-30:]) == pytest.approx(max(found[:30]), rel=0.02)


def test_r1_converges(toys: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(loop, "PhaseOptimiser", Descent)
    assert radii(toys, tmp_path, 1.0, 120, rate=0.3)[-1] < 1e-5
