"""Critics: shapes, condition, spectral norm, and the penalty's way to every parameter."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.models import build_critic
from fastgan.models.critic import SPREAD_EPS
from fastgan.models.generator import ARCHITECTURES
from fastgan.nn import NORMS

SHAPES = [(32, 32, 32), (48, 40, 12), (20, 6, 34), (64, 64, 16)]


def small(**settings: Any) -> nn.Module:
    defaults = {"architecture": "dcgan", "shape": (8, 6, 12), "norm": "none"}
    return build_critic(**(defaults | {"critic_channels": (4, 8, 8)} | settings))


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
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize(
    ("norm", "spectral_norm", "group"),
    # Groups meet the other settings in the features alone.
    [*itertools.product(NORMS, [False, True], [0]), ("none", False, 2), ("instance", False, 2)],
)
def test_penalty_reaches_parameters(
    architecture: str,
    num_classes: int,
    norm: str,
    spectral_norm: bool,
    group: int,
    use_stock_operators: Callable[[], None],
) -> None:
    critic = small(
        architecture=architecture,
        norm=norm,
        num_classes=num_classes,
        spectral_norm=spectral_norm,
        minibatch_stddev=group,
    )
    real, at = torch.randn(2, 4, 1, 8, 6, 12).unbind()
    # A group of one class and one of two, where a sample is alone in its class.
    labels = torch.tensor([1, 1, 2, 0]) if num_classes else None
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


@pytest.mark.parametrize("num_classes", [0, 3])
def test_spread_matches_its_formula(num_classes: int) -> None:
    """Beside every feature its standard deviation within group and class."""
    critic = small(num_classes=num_classes, minibatch_stddev=4).double()
    x = torch.randn(8, 1, 8, 6, 12, dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, 0, 2, 2, 2, 2])
    features = critic.stages(x).permute(0, 2, 3, 4, 1).flatten(1)
    spread = torch.empty_like(features)
    for i in range(8):
        group = slice(i // 4 * 4, i // 4 * 4 + 4)
        alike = labels[group] == labels[i] if num_classes else slice(None)
        variance = features[group][alike].var(0, unbiased=False)
        spread[i] = (variance + SPREAD_EPS).sqrt()
    wide = torch.cat([features, spread], 1)
    expected = critic.head(wide)[:, 0]
    if num_classes:
        expected = expected + (critic.embed.weight[labels] * wide).sum(1)
    scores = critic(x, labels if num_classes else None)
    torch.testing.assert_close(scores, expected)


def test_groups_know_nothing_of_each_other() -> None:
    """Real and generated volumes may share a pass, and their scores are as in passes of their own.

    Within a group volumes that are alike score otherwise than volumes that differ.
    """
    critic = small(num_classes=2, minibatch_stddev=4)
    real, fake = torch.randn(2, 4, 1, 8, 6, 12).unbind()
    labels = torch.tensor([0, 1, 1, 0])
    both = critic(torch.cat([real, fake]), torch.cat([labels, labels]))
    torch.testing.assert_close(both[:4], critic(real, labels))
    torch.testing.assert_close(both[4:], critic(fake, labels))
    copies = real[:1].expand_as(real)
    same = torch.zeros(4, dtype=torch.int64)
    alone = critic(copies, same)
    assert (alone[0] - critic(torch.cat([real[:1], fake[1:]]), same)[0]).abs() > 1e-3


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
        ({"shape": (130, 130, 130)}, "critic_channels: shape 130x130x130"),
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
    with pytest.raises(ConfigError, match="minibatch_stddev 4 does not divide a batch of 6"):
        small(minibatch_stddev=4)(torch.randn(6, 1, 8, 6, 12))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folded_critic_sees_every_voxel(architecture: str) -> None:
    critic = build_critic(
        architecture=architecture,
        shape=(8, 8, 4),
        critic_channels=(4, 4),
        norm="none",
        fold=(2, 2, 1),
    )
    x = torch.randn(2, 1, 8, 8, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x)
    assert (gradient != 0).all()
