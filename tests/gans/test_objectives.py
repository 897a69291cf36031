"""Objectives against closed forms, and the toy truths that tell one loss from another."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.examples.toy_game.solution import best_scores
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


@pytest.mark.parametrize("name", sorted(objectives))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_loss_of_both_halves_is_that_of_the_definition(name: str, dtype: torch.dtype) -> None:
    """Means of the terms and the weighted penalty, whatever way they are added up."""
    objective = find_objective(name)
    scores = torch.randn(8, dtype=torch.float64).to(dtype).requires_grad_()
    wide = torch.promote_types(dtype, torch.float32)
    penalty = torch.tensor(0.7, dtype=wide, requires_grad=True)
    real, fake = scores.to(wide).chunk(2)
    wanted = objective.on_real(real).mean() + objective.on_fake(fake).mean() + 10.0 * penalty
    expected = torch.autograd.grad(wanted, [scores, penalty])
    for found in (
        objective.critic_loss(*scores.chunk(2), penalty, 10.0),
        objective.critic_loss_of_both(scores, penalty, 10.0),
    ):
        assert found.dtype == wide and found.dim() == 0
        torch.testing.assert_close(found, wanted)
        for a, b in zip(torch.autograd.grad(found, [scores, penalty]), expected, strict=True):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(
        objective.critic_loss_of_both(scores), wanted - 10.0 * penalty, rtol=1e-5, atol=1e-5
    )


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
    best = best_scores(objective, p, q)
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
