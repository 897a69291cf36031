"""Patch critics: maps of scores, what one score sees, and the penalty's way to every parameter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.models import PatchCritic, build_patch_critic
from fastgan.nn import NORMS


def small(**settings: Any) -> PatchCritic:
    defaults: dict[str, Any] = {
        "shape": (8, 8, 16),
        "patch_critic_channels": (4, 8),
        "norm": "none",
    }
    return build_patch_critic(**(defaults | settings))


@pytest.mark.parametrize("widths", [(4,), (4, 6), (4, 6, 8)], ids=str)
@pytest.mark.parametrize("fold", [(1, 1, 1), (2, 1, 2)], ids=str)
def test_shapes(widths: tuple[int, ...], fold: tuple[int, int, int]) -> None:
    critic = small(patch_critic_channels=widths, fold=fold, channels=2)
    assert critic.stride == tuple(f * 2 ** (len(widths) - 1) for f in fold)
    for factors in ((1, 1, 2), (3, 2, 5)):
        size = [f * s for f, s in zip(factors, critic.stride, strict=True)]
        x = torch.randn(3, 2, *size)
        scores = critic(x)
        assert scores.shape == (3, *factors)
        last = critic(x.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(last, scores)


@pytest.mark.parametrize("widths", [(4,), (4, 6), (4, 6, 8)], ids=str)
@pytest.mark.parametrize("fold", [(1, 1, 1), (1, 1, 2)], ids=str)
def test_field_is_what_a_score_depends_on(
    widths: tuple[int, ...], fold: tuple[int, int, int]
) -> None:
    critic = small(shape=(4, 4, 96), patch_critic_channels=widths, fold=fold).double()
    x = torch.randn(1, 1, 4, 4, 96, dtype=torch.float64, requires_grad=True)
    scores = critic(x)
    (gradient,) = torch.autograd.grad(scores[0, 0, 0, scores.shape[-1] // 2], x)
    seen = gradient[0, 0].abs().amax((0, 1)).nonzero().flatten()
    assert int(seen[-1] - seen[0]) + 1 == critic.field[2]


class MeanScore(nn.Module):
    """What a penalty on the slope takes of a map: its mean."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.critic(x)
        return scores.flatten(1).mean(1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_penalty_reaches_parameters(
    norm: str, spectral_norm: bool, use_stock_operators: Callable[[], None]
) -> None:
    # Without a power iteration per forward, which would make the copies drift apart.
    critic = MeanScore(small(norm=norm, spectral_norm=spectral_norm)).eval()
    wide = copy.deepcopy(critic).double()
    stock = copy.deepcopy(wide)
    real, at = torch.randn(2, 3, 1, 8, 8, 16).unbind()

    def ours(critic: nn.Module, dtype: torch.dtype) -> Tensor:
        there = at.to(dtype)
        value = ops.gradient_penalty(critic, there, there).value
        return critic(real.to(dtype)).square().mean() + 10 * value

    def textbook(critic: nn.Module) -> Tensor:
        x = at.double().requires_grad_()
        (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        value = (g.flatten(1).norm(dim=1) - 1).square().mean()
        return critic(real.double()).square().mean() + 10 * value

    ours(critic, torch.float32).backward()
    ours(wide, torch.float64).backward()
    use_stock_operators()
    textbook(stock).backward()
    expected = dict(stock.named_parameters())
    for (name, narrow), parameter in zip(critic.named_parameters(), wide.parameters(), strict=True):
        assert narrow.grad is not None and parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-8, atol=1e-9)
        error = (narrow.grad.double() - parameter.grad).norm()
        assert error <= 1e-4 * (1 + parameter.grad.norm()), name


def test_spectral_norm_bounds_every_weight() -> None:
    critic, x = small(spectral_norm=True), torch.randn(2, 1, 8, 8, 16)
    for _ in range(50):
        critic(x)
    weights = [m.weight for m in critic.modules() if hasattr(m, "parametrizations")]
    assert len(weights) == 3
    for weight in weights:
        top = torch.linalg.matrix_norm(weight.flatten(1), 2)
        assert top.item() == pytest.approx(1.0, abs=1e-2)


def test_scores_stay_float32_under_autocast() -> None:
    critic, x = small(), torch.randn(2, 1, 8, 8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        scores = critic(x)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, critic(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batch"}, "norm 'batch' is unknown"),
        ({"patch_critic_channels": ()}, "patch_critic_channels: at least one"),
        ({"shape": (8, 3, 16), "patch_critic_channels": (4, 4, 4)}, "axis 1 has 3 blocks"),
        ({"shape": (8, 8, 15), "fold": (2, 2, 2)}, "axis 2 of shape 8x8x15 is not divisible"),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_rejects_inputs() -> None:
    with pytest.raises(ConfigError, match=r"patch critic: x must be \[B, 1, D, H, W\]"):
        small()(torch.zeros(2, 3, 8, 8, 16))
    with pytest.raises(ConfigError, match=r"blocks 1 x 1 x 2 .* got \[8, 8, 15\]"):
        small(fold=(1, 1, 2))(torch.zeros(2, 1, 8, 8, 15))
    with pytest.raises(ConfigError, match=r"at least its stride 2 x 2 x 2, got \[8, 8, 1\]"):
        small()(torch.zeros(2, 1, 8, 8, 1))
