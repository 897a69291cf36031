"""Every network takes any even shape: half of an odd grid is rounded, and its length given back."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan import ops
from fastgan.models import (
    Ladder,
    build_critic,
    build_generator,
    build_ladder,
    build_patch_critic,
    build_translator,
)
from fastgan.models.generator import ARCHITECTURES
from fastgan.models.translator import TRANSLATORS
from fastgan.nn import average_pool, upsample

# Of the axes that were refused: 15, 17, 19, 25 and 31 after one halving.
AWKWARD = [30, 34, 38, 50, 62]
MIXED = [(34, 30, 38), (18, 50, 62)]
# Small enough for derivatives: 7, 9 and 5 after one halving, 3, 4 and 2 after two.
SMALL = (14, 18, 10)
FOLDS = [(1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize("stages", [3, 4, 5])
def test_a_ladder_for_every_even_cube(stages: int) -> None:
    """From the coarsest grid one can get back, and no axis falls below its minimum."""
    for size, minimum in itertools.product(range(2, (8 << stages) + 1, 2), (2, 3)):
        ladder = build_ladder((size,) * 3, stages, minimum=minimum)
        assert ladder.coarsest[0] <= 8
        assert ladder.coarsest[0] >= min(size, minimum)
        grid = ladder.coarsest
        for stride, extra in zip(reversed(ladder.strides), reversed(ladder.left_over), strict=True):
            assert all(0 <= e < s for e, s in zip(extra, stride, strict=True))
            grid = tuple(s * n + e for n, s, e in zip(grid, stride, extra, strict=True))
        assert grid == (size,) * 3


def test_shapes_that_worked_are_halved_as_before() -> None:
    """Where even halvings reach a small grid, an odd axis stays as it is."""
    even = build_ladder((34, 32, 32), 3, minimum=3)
    assert even.coarsest == (17, 4, 4)
    assert even.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert not any(map(any, even.left_over))
    assert build_ladder((34, 34, 34), 3, minimum=3) == Ladder(
        ((34,) * 3, (17,) * 3, (8,) * 3, (4,) * 3), ((2,) * 3,) * 3
    )


def generator(shape: tuple[int, int, int], **settings: Any) -> nn.Module:
    chosen = {"architecture": "dcgan", "norm": "instance", "generator_channels": (8, 6, 4)}
    return build_generator(shape=shape, latent_dim=4, **(chosen | settings))


def critic(shape: tuple[int, int, int], **settings: Any) -> nn.Module:
    chosen = {"architecture": "dcgan", "norm": "none", "critic_channels": (4, 6, 8)}
    return build_critic(shape=shape, **(chosen | settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("fold", FOLDS, ids=str)
@pytest.mark.parametrize("shape", [(n,) * 3 for n in AWKWARD[::2]] + MIXED, ids=str)
def test_generator_and_critic(
    architecture: str, fold: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    makes = generator(shape, architecture=architecture, fold=fold)
    judges = critic(shape, architecture=architecture, fold=fold)
    with torch.no_grad():
        x = makes(torch.randn(2, 4))
        assert x.shape == (2, 1, *shape)
        assert judges(x).shape == (2,)


def reaches(y: Tensor, x: Tensor) -> Tensor:
    """Largest slope of y in each voxel of x [B, C, D, H, W] -> [D, H, W]."""
    cotangent = torch.randn(y.shape, dtype=y.dtype)
    (slope,) = torch.autograd.grad(y, x, cotangent)
    return slope.abs().amax((0, 1))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_critic_sees_every_voxel(architecture: str) -> None:
    judges = critic(SMALL, architecture=architecture, critic_channels=(4, 6)).double()
    x = torch.randn(2, 1, *SMALL, dtype=torch.float64, requires_grad=True)
    assert reaches(judges(x), x).min() > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_generator_gives_every_voxel_a_variety(architecture: str) -> None:
    """No voxel that rounding added is the same whatever the latent."""
    makes = generator((34, 30, 14), architecture=architecture, norm="none")
    with torch.no_grad():
        spread = makes(torch.randn(16, 4)).std(0)[0]
    # A corner is reached by fewer taps than the middle, whether rounding added it or not.
    assert spread[-1, -1, -1] > 0.3 * spread[0, 0, 0] > 0
    assert (spread.amin((0, 1)) > 0).all() and spread.min() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", ["none", "instance"])
def test_the_penalty_is_right_to_the_second_order(architecture: str, norm: str) -> None:
    """The gradient of the penalty against differences of the penalty itself, in float64."""
    judges = critic(SMALL, architecture=architecture, norm=norm, critic_channels=(3, 4)).double()
    x = torch.randn(2, 1, *SMALL, dtype=torch.float64)

    def penalty() -> Tensor:
        return ops.gradient_penalty(judges, x, x).value

    parameters = [p for p in judges.parameters() if p.dim() > 1]
    directions = [torch.randn_like(p) for p in parameters]
    gradients = torch.autograd.grad(penalty(), parameters)
    found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * step * direction
        values.append(penalty().detach())
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= sign * step * direction
    torch.testing.assert_close(found, (values[0] - values[1]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("architecture", TRANSLATORS)
@pytest.mark.parametrize("fold", FOLDS, ids=str)
@pytest.mark.parametrize("shape", [(n,) * 3 for n in AWKWARD[::2]] + MIXED, ids=str)
def test_translator_and_patch_critic(
    architecture: str, fold: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    networks: dict[str, Any] = {"shape": shape, "fold": fold}
    translates = build_translator(
        architecture=architecture, norm="instance", translator_channels=(4, 6, 8), blocks=1,
        **networks,
    )  # fmt: skip
    judges = build_patch_critic(norm="none", patch_critic_channels=(4, 6, 8), **networks)
    with torch.no_grad():
        y = translates(torch.randn(1, 1, *shape))
        assert y.shape == (1, 1, *shape)
        grid = tuple(n // f // 4 for n, f in zip(shape, fold, strict=True))
        assert judges(y).shape == (1, *grid)


@pytest.mark.parametrize("architecture", TRANSLATORS)
def test_a_translation_depends_on_every_voxel_and_reaches_every_parameter(
    architecture: str,
) -> None:
    translates = build_translator(
        architecture=architecture, shape=SMALL, norm="none", translator_channels=(3, 4, 4), blocks=1
    )
    wide = copy.deepcopy(translates).double()
    x = torch.randn(1, 1, *SMALL, dtype=torch.float64, requires_grad=True)
    y = wide(x)
    assert reaches(y, x).min() > 0
    torch.testing.assert_close(translates(x.float()), y.float(), rtol=1e-4, atol=1e-5)
    wide(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in wide.parameters())


def test_what_is_left_over_joins_the_last_block() -> None:
    x = torch.arange(1.0, 8.0).view(1, 1, 7, 1, 1)
    pooled = average_pool(x, (2, 1, 1))
    assert pooled.flatten().tolist() == [1.5, 3.5, 6.0]
    assert average_pool(x, (3, 1, 1)).flatten().tolist() == [2.0, 5.5]
    grown = upsample(pooled, (2, 1, 1), left_over=(1, 0, 0))
    assert grown.flatten().tolist() == [1.5, 1.5, 3.5, 3.5, 6.0, 6.0, 6.0]
    linear = upsample(pooled, (2, 1, 1), "trilinear", (1, 0, 0))
    assert linear.shape[2] == 7 and linear[0, 0, 6] == linear[0, 0, 5]


@pytest.mark.parametrize("strides", [(2, 2, 2), (3, 1, 2)])
def test_pooling_and_enlarging_odd_axes_gradgradcheck(strides: tuple[int, int, int]) -> None:
    x = torch.randn(1, 2, 7, 5, 3, dtype=torch.float64, requires_grad=True)

    def pooled(x: Tensor) -> Tensor:
        return average_pool(x, strides).pow(3)

    def grown(x: Tensor) -> Tensor:
        return upsample(x, strides, left_over=(1, 0, 1)).pow(3)

    for function in (pooled, grown):
        assert torch.autograd.gradcheck(function, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, x, fast_mode=True)
