"""Penalties on critics whose slope is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.gans import Penalty
from fastgan.models import build_critic
from fastgan.ops import gradient_penalty


class Quadratic(nn.Module):
    """f(x) = w |x|^2 / 2, of slope w |x|."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        scale = 1.0 if labels is None else 1.0 + labels
        return scale * self.w * x.flatten(1).square().sum(1) / 2


def volumes(length: float) -> Tensor:
    """Two volumes of that Euclidean norm."""
    x = torch.zeros(2, 1, 2, 2, 2, dtype=torch.float64)
    x[0, 0, 0, 0, 0], x[1, 0, 1, 1, 1] = length, -length
    return x


@pytest.mark.parametrize(
    ("kind", "one_sided", "w", "value", "norm"),
    [
        ("r1", False, 2.0, (2 * 3.0) ** 2 / 2, 6.0),
        ("r2", False, 2.0, (2 * 0.5) ** 2 / 2, 1.0),
        ("wgan-gp", False, 0.1, (0.1 * 3.0 - 1) ** 2, 0.3),
        ("wgan-gp", True, 0.1, 0.0, 0.3),
        ("wgan-gp", True, 1.0, 4.0, 3.0),
    ],
)
def test_values(kind: str, one_sided: bool, w: float, value: float, norm: float) -> None:
    critic = Quadratic(w)
    real = volumes(3.0)
    # WGAN-GP mixes; equal volumes make the mix known.
    fake = real.clone() if kind == "wgan-gp" else volumes(0.5)
    found, norms = Penalty(kind, 10.0, one_sided).evaluate(critic, real, fake)
    assert found.item() == pytest.approx(value, abs=1e-12)
    torch.testing.assert_close(norms, torch.full((2,), norm, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["r1", "wgan-gp"])
def test_reaches_the_parameter(kind: str) -> None:
    critic, real = Quadratic(2.0), volumes(3.0)
    value, _ = Penalty(kind).evaluate(critic, real, real.clone())
    (g,) = torch.autograd.grad(value, critic.w)
    # d/dw (3w)^2 / 2 and d/dw (3w - 1)^2
    assert g.item() == pytest.approx(18.0 if kind == "r1" else 30.0)


def test_labels_reach_the_critic() -> None:
    _, norms = Penalty("r1").evaluate(
        Quadratic(1.0), volumes(3.0), volumes(3.0), torch.tensor([0, 1])
    )
    assert norms.tolist() == [3.0, 6.0]


def test_mix_lies_between_and_repeats() -> None:
    critic, penalty = Quadratic(1.0), Penalty()
    norms = [
        penalty.evaluate(critic, volumes(1.0), volumes(3.0), share=torch.tensor(share).double())[1]
        for share in ([0.25, 0.5], [0.25, 0.5], [0.25, 0.75])
    ]
    assert torch.equal(norms[0], norms[1]) and not torch.equal(norms[0], norms[2])
    assert all(1.0 <= n <= 3.0 for n in norms[0].tolist())


def test_lazy_penalty_weighs_its_interval() -> None:
    penalty = Penalty("r1", 10.0, interval=4)
    assert [step for step in range(10) if penalty.due(step)] == [0, 4, 8]
    assert sum(penalty.factor for step in range(8) if penalty.due(step)) == 8 * 10.0
    assert not any(Penalty("none").due(step) for step in range(10))


def test_excess() -> None:
    norms = torch.tensor([0.5, 2.0])
    assert Penalty().excess(norms).item() == pytest.approx((-0.25 + 2.0) / 2)
    assert Penalty(one_sided=True).excess(norms).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "r3"}, "'r3' is unknown"),
        ({"weight": 0.0}, "penalty_weight 0.0 does nothing"),
        ({"kind": "r1", "weight": 0.0}, "does nothing"),
        ({"kind": "r1", "one_sided": True}, "one_sided needs"),
        ({"interval": 0}, "penalty_interval"),
    ],
)
def test_rejects_settings(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Penalty(**settings)


def test_no_penalty_ignores_its_weight() -> None:
    assert Penalty("none", 0.0).kind == "none"


@pytest.mark.parametrize("coupled", [0, 2])
def test_scaling_the_critic_balances_scores_and_slopes(coupled: int) -> None:
    """d loss / d scale is 2 lambda E[n (n - 1)] - (E_real s - E_fake s), samples coupled or not."""
    critic = build_critic(
        architecture="dcgan",
        norm="none",
        shape=(8, 8, 8),
        critic_channels=(4, 8),
        minibatch_stddev=coupled,
    ).double()
    real, fake = torch.randn(2, 4, 1, 8, 8, 8, dtype=torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = gradient_penalty(
        lambda x: scale * critic(x), real, fake, generator=torch.Generator().manual_seed(0)
    )
    gap = (critic(real) - critic(fake)).mean()
    (change,) = torch.autograd.grad(10.0 * found.value - scale * gap, scale)
    wanted = 20.0 * (found.norms * (found.norms - 1.0)).mean() - gap
    torch.testing.assert_close(change, wanted)
    # The slope of one sample holds its effect on the others just where they are coupled.
    alone = gradient_penalty(critic, fake[: coupled or 1], fake[: coupled or 1], target=0.0).norms
    x = fake[: coupled or 1].clone().requires_grad_()
    (own,) = torch.autograd.grad(critic(x)[0], x)
    apart = (own[0].norm() - alone[0]).abs() > 1e-6 * alone[0]
    assert bool(apart) == bool(coupled)
