"""Critics: shapes, condition, spectral norm, and the penalty's way to every parameter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.models import build_critic
from fastgan.models.generator import ARCHITECTURES
from fastgan.nn import NORMS

SHAPES = [(32, 32, 32), (48, 40, 12), (20, 6, 34), (64, 64, 16)]


def small(**settings: Any) -> nn.Module:
    return build_critic(**({"shape": (8, 6, 12), "critic_channels": (4, 8, 8)} | settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(architecture: str, shape: tuple[int, int, int]) -> None:
    critic = small(architecture=architecture, shape=shape, channels=2, critic_channels=(4, 4, 8, 8))
    x = torch.randn(2, 2, *shape)
    scores = critic(x)
    assert scores.shape == (2,)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(critic(last), scores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layouts(architecture: str) -> None:
    critic = small(architecture=architecture, norm="instance")
    seen = []
    for module in critic.stages.modules():
        module.register_forward_hook(lambda _m, _i, y: seen.append(y))
    critic(torch.randn(2, 1, 8, 6, 12))
    assert len(seen) > 6
    assert all(y.is_contiguous(memory_format=torch.channels_last_3d) for y in seen)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_penalty_reaches_parameters(
    architecture: str,
    norm: str,
    num_classes: int,
    spectral_norm: bool,
    use_stock_operators: Callable[[], None],
) -> None:
    critic = small(
        architecture=architecture, norm=norm, num_classes=num_classes, spectral_norm=spectral_norm
    )
    real, at = torch.randn(2, 4, 1, 8, 6, 12).unbind()
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    # A power iteration per forward would make the copies drift apart.
    critic.eval()
    wide = copy.deepcopy(critic).double()
    stock = copy.deepcopy(wide)

    def ours(critic: nn.Module, dtype: torch.dtype) -> Tensor:
        there = at.to(dtype)
        value = ops.gradient_penalty(critic, there, there, labels=labels).value
        return critic(real.to(dtype), labels).square().mean() + 10 * value

    def textbook(critic: nn.Module) -> Tensor:
        x = at.double().requires_grad_()
        (g,) = torch.autograd.grad(critic(x, labels).sum(), x, create_graph=True)
        value = (g.flatten(1).norm(dim=1) - 1).square().mean()
        return critic(real.double(), labels).square().mean() + 10 * value

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


def test_projection_matches_its_formula() -> None:
    critic = small(num_classes=2).double()
    x = torch.randn(3, 1, 8, 6, 12, dtype=torch.float64)
    labels = torch.tensor([1, 0, 1])
    features = critic.stages(x).permute(0, 2, 3, 4, 1).flatten(1)
    expected = critic.head(features)[:, 0]
    expected = expected + (critic.embed.weight[labels] * features).sum(1)
    torch.testing.assert_close(critic(x, labels), expected)
    assert (critic(x, labels) - critic(x, 1 - labels)).abs().min() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spectral_norm_bounds_every_weight(architecture: str) -> None:
    critic = small(architecture=architecture, num_classes=3, spectral_norm=True)
    x, labels = torch.randn(2, 1, 8, 6, 12), torch.tensor([0, 2])
    for _ in range(50):
        critic(x, labels)
    weights = [m.weight for m in critic.modules() if hasattr(m, "parametrizations")]
    assert len(weights) >= 5
    for weight in weights:
        top = torch.linalg.matrix_norm(weight.flatten(1), 2)
        assert top.item() == pytest.approx(1.0, abs=1e-2)
    assert all("original" in n for n in critic.state_dict() if n.endswith("0.conv.weight"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "residul"}, "did you mean 'residual'"),
        ({"norm": "batch", "critic_channels": (4,)}, "norm 'batch' is unknown"),
        ({"critic_channels": (4, 0)}, "critic_channels"),
        ({"shape": (66, 66, 66)}, "critic_channels: shape 66x66x66"),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_rejects_inputs() -> None:
    with pytest.raises(ConfigError, match=r"x must be \[B, 1, 8, 6, 12\], got \[2, 1, 8, 6, 10\]"):
        small()(torch.randn(2, 1, 8, 6, 10))
    with pytest.raises(ConfigError, match="without classes"):
        small()(torch.randn(2, 1, 8, 6, 12), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="missing"):
        small(num_classes=2)(torch.randn(2, 1, 8, 6, 12))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folded_critic_sees_every_voxel(architecture: str) -> None:
    critic = build_critic(
        architecture=architecture, shape=(8, 8, 4), critic_channels=(4, 4), fold=(2, 2, 1)
    )
    x = torch.randn(2, 1, 8, 8, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    assert (gradient != 0).all()
