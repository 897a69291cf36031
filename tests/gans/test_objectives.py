"""Objectives against closed forms, and the toy truths that tell one loss from another."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import Objective, find_objective, objectives, register

Divergence = Callable[[Tensor, Tensor], Tensor]
PROBABILITIES = (
    torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64),
    torch.tensor([0.61597756, 0.19201122, 0.19201122], dtype=torch.float64),
)
ZEROS = torch.zeros(4)


@pytest.mark.parametrize(
    ("name", "score", "critic", "generator"),
    [
        ("minimax", 0.0, math.log(4), -math.log(2)),
        ("non-saturating", 0.0, math.log(4), math.log(2)),
        ("least-squares", 0.5, 0.25, 0.125),
        ("hinge", 0.0, 2.0, 0.0),
        ("wasserstein", 3.0, 0.0, -3.0),
    ],
)
def test_values_at_the_optimum(name: str, score: float, critic: float, generator: float) -> None:
    scores = ZEROS + score
    objective = find_objective(name)
    assert objective.critic_loss(scores, scores).item() == pytest.approx(critic, abs=1e-6)
    assert objective.generator_loss(scores).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "critic", "generator"),
    [
        ("minimax", math.log1p(math.exp(-2)) + math.log1p(math.e), -math.log1p(math.e)),
        ("non-saturating", math.log1p(math.exp(-2)) + math.log1p(math.e), math.log1p(1 / math.e)),
        ("least-squares", 0.5 + 0.5, 0.0),
        ("hinge", 0.0 + 2.0, -1.0),
        ("wasserstein", -1.0, -1.0),
    ],
)
def test_values_at_real_2_fake_1(name: str, critic: float, generator: float) -> None:
    objective = find_objective(name)
    assert objective.critic_loss(ZEROS + 2, ZEROS + 1).item() == pytest.approx(critic, abs=1e-6)
    assert objective.generator_loss(ZEROS + 1).item() == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_extreme_scores_stay_finite(name: str, size: float) -> None:
    scores = torch.full((2,), size, requires_grad=True)
    objective = find_objective(name)
    for loss in (objective.critic_loss(scores, scores), objective.generator_loss(scores)):
        (g,) = torch.autograd.grad(loss, scores)
        assert loss.isfinite() and g.isfinite().all()


def test_half_width_scores_average_in_float32() -> None:
    scores = torch.full((3,), 1.0 + 2**-7, dtype=torch.bfloat16)
    loss = find_objective("wasserstein").critic_loss(scores, 0 * scores)
    assert loss.dtype == torch.float32
    assert loss.item() == -(1.0 + 2**-7)


def best_scores(objective: Objective, p: Tensor, q: Tensor) -> Tensor:
    return p / (p + q) if objective.name == "least-squares" else (p / q).log()


def expected_critic_loss(objective: Objective, s: Tensor, p: Tensor, q: Tensor) -> Tensor:
    return (p * objective.on_real(s)).sum() + (q * objective.on_fake(s)).sum()


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least-squares"])
def test_best_critic_is_the_density_ratio(name: str) -> None:
    p, q = PROBABILITIES
    objective = find_objective(name)
    s = best_scores(objective, p, q).requires_grad_()
    (g,) = torch.autograd.grad(expected_critic_loss(objective, s, p, q), s)
    torch.testing.assert_close(g, torch.zeros_like(g), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "optimum"),
    [
        ("minimax", 0.61597756),
        ("non-saturating", 0.65071443),
        ("least-squares", 0.64994965),
    ],
)
def test_generator_optimum_on_a_line_of_categoricals(name: str, optimum: float) -> None:
    objective = find_objective(name)
    p = PROBABILITIES[0]
    direction = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)

    def slope(t: float) -> float:
        """Of the generator's loss along the line, against the best critic held fixed."""
        q = torch.tensor([t, (1 - t) / 2, (1 - t) / 2], dtype=torch.float64)
        return float((direction * objective.on_generator(best_scores(objective, p, q))).sum())

    low, high = 0.4, 0.9
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) * slope(low) > 0 else (low, middle)
    assert slope(0.4) * slope(0.9) < 0
    assert low == pytest.approx(optimum, abs=1e-6)


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least-squares"])
def test_full_categorical_generator_reaches_the_data(name: str) -> None:
    objective = find_objective(name)
    p = PROBABILITIES[0]
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        q = logits.softmax(0)
        loss = (q * objective.on_generator(best_scores(objective, p, q.detach()))).sum()
        (g,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2.0 * g).detach().requires_grad_()
    torch.testing.assert_close(logits.softmax(0), p, rtol=0, atol=1e-2)


def test_jensen_shannon_of_the_best_critic() -> None:
    p, q = PROBABILITIES
    objective = find_objective("minimax")
    s = best_scores(objective, p, q)
    divergence = math.log(2) - float(expected_critic_loss(objective, s, p, q)) / 2
    assert divergence == pytest.approx(0.0133995002, abs=1e-9)
    expected = torch.tensor([0.4934301567, 0.6097421950, 0.3424525972], dtype=torch.float64)
    torch.testing.assert_close(s.sigmoid(), expected, rtol=0, atol=1e-7)
    # As logged: from samples that hold these shares.
    real = s.repeat_interleave(torch.tensor([6, 3, 1]))
    bound = objective.metrics(real, real)["jensen_shannon"]
    assert bound.item() <= 1e-12


@pytest.mark.parametrize(
    ("name", "divergence", "of"),
    [
        ("minimax", "jensen_shannon", lambda p, q: jensen_shannon(p, q)),
        ("non-saturating", "jensen_shannon", lambda p, q: jensen_shannon(p, q)),
        ("least-squares", "le_cam", lambda p, q: ((p - q) ** 2 / (p + q)).sum() / 2),
        ("hinge", "total_variation", lambda p, q: (p - q).abs().sum() / 2),
    ],
)
def test_logged_divergence(name: str, divergence: str, of: Divergence) -> None:
    """Tight for the best critic, and below the truth for any other."""
    p, q = (torch.tensor(counts, dtype=torch.float64) / 10 for counts in ([6, 3, 1], [4, 1, 5]))
    objective = find_objective(name)
    best = (p - q).sign() if name == "hinge" else best_scores(objective, p, q)
    truth = float(of(p, q))

    def logged(s: Tensor) -> float:
        counts = [(10 * shares).round().long() for shares in (p, q)]
        return objective.metrics(*(s.repeat_interleave(n) for n in counts))[divergence].item()

    assert logged(best) == pytest.approx(truth, abs=1e-12)
    for seed in range(20):
        away = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert logged(best + away) < truth


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least-squares"])
def test_mean_verdicts(name: str) -> None:
    """D(x) and D(G(z)): sigmoids of logits, the scores themselves of least squares."""
    real, fake = torch.tensor([0.0, math.log(3.0)]), torch.tensor([-math.log(4.0)] * 2)
    metrics = find_objective(name).metrics(real, fake)
    expected = (math.log(3.0) / 2, -math.log(4.0)) if name == "least-squares" else (0.625, 0.2)
    assert (metrics["d_real"].item(), metrics["d_fake"].item()) == pytest.approx(expected)


def test_margins_of_hinge() -> None:
    real, fake = torch.tensor([2.0, 1.0, 0.9, -3.0]), torch.tensor([-1.0, -0.9, 0.0, -5.0])
    metrics = find_objective("hinge").metrics(real, fake)
    assert (metrics["margin_real"].item(), metrics["margin_fake"].item()) == (0.5, 0.5)


def test_disjoint_supports_saturate() -> None:
    real, fake = torch.full((3,), 50.0), torch.full((3,), -50.0, requires_grad=True)
    minimax, other = find_objective("minimax"), find_objective("non-saturating")
    bound = minimax.metrics(real, fake)["jensen_shannon"]
    assert bound.item() == pytest.approx(math.log(2), abs=1e-6)
    (vanishing,) = torch.autograd.grad(minimax.generator_loss(fake), fake)
    (alive,) = torch.autograd.grad(other.generator_loss(fake), fake)
    assert vanishing.abs().max() < 1e-20
    torch.testing.assert_close(alive, torch.full((3,), -1 / 3))


def test_metrics_are_detached_means() -> None:
    real = torch.tensor([1.0, 3.0], requires_grad=True)
    metrics = find_objective("wgan-gp").metrics(real, torch.tensor([0.5, 0.5]))
    assert {k: v.item() for k, v in metrics.items()} == {
        "score_real": 2.0,
        "score_fake": 0.5,
        "wasserstein": 1.5,
    }
    assert not any(v.requires_grad for v in metrics.values())


def test_wgan_gp_is_the_wasserstein_objective() -> None:
    assert find_objective("wgan-gp") is find_objective("wasserstein")


def test_rejects_unknown_objective() -> None:
    with pytest.raises(ConfigError, match="'wgan-pg' is unknown; did you mean 'wgan-gp'"):
        find_objective("wgan-pg")


def test_rejects_second_registration() -> None:
    before = dict(objectives)
    with pytest.raises(ValueError, match="twice"):
        register(find_objective("hinge"))
    assert objectives == before
