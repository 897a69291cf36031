"""Generators: shapes, layout, range, condition, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.models import build_generator, describe, parameter_count
from fastgan.models.generator import ARCHITECTURES, HEADROOM
from fastgan.nn import NORMS
from fastgan.ops import smooth

SHAPES = [(32, 32, 32), (48, 40, 12), (20, 6, 34), (64, 64, 16)]


def small(**settings: Any) -> torch.nn.Module:
    defaults = {"shape": (16, 8, 12), "latent_dim": 6, "generator_channels": (8, 8, 4)}
    defaults |= {"architecture": "dcgan", "norm": "instance"}
    return build_generator(**(defaults | settings))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(architecture: str, shape: tuple[int, int, int]) -> None:
    generator = small(
        architecture=architecture, shape=shape, channels=2, generator_channels=(8, 8, 4, 4)
    )
    volumes = generator(torch.randn(2, 6))
    assert volumes.shape == (2, 2, *shape)
    assert volumes.is_contiguous(memory_format=torch.channels_last_3d)
    assert volumes.abs().max() <= HEADROOM
    assert volumes.std() > 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_parameter_gets_a_gradient(architecture: str, norm: str, num_classes: int) -> None:
    generator = small(architecture=architecture, norm=norm, num_classes=num_classes)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    volumes = generator(torch.randn(4, 6), labels)
    volumes.backward(torch.randn_like(volumes))
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("norm", NORMS)
def test_labels_matter(architecture: str, norm: str) -> None:
    generator = small(architecture=architecture, norm=norm, num_classes=2)
    z = torch.randn(3, 6)
    zero, one = (generator(z, torch.full((3,), k)) for k in (0, 1))
    assert (zero - one).abs().mean() > 1e-2


def test_samples_are_independent() -> None:
    generator = small()
    z = torch.randn(3, 6)
    torch.testing.assert_close(generator(z)[1:2], generator(z[1:2]))


def test_linear_output_is_not_squashed() -> None:
    tanh = small()
    linear = small(output="linear")
    linear.load_state_dict(tanh.state_dict())
    z = torch.randn(2, 6)
    torch.testing.assert_close(HEADROOM * linear(z).tanh(), tanh(z))


def test_background_keeps_a_gradient() -> None:
    # Where the volume is -1, the logit is finite and the output still moves with it.
    logit = torch.tensor(-1 / HEADROOM).atanh().requires_grad_()
    (slope,) = torch.autograd.grad(HEADROOM * logit.tanh(), logit)
    assert slope > 0.05


def test_describe_adds_up() -> None:
    generator = small(num_classes=2)
    head, *rest = describe(generator).splitlines()
    assert head == f"Generator: {parameter_count(generator):,} parameters"
    counts = [int(line.rpartition(" ")[2].replace(",", "")) for line in rest]
    assert sum(counts) == parameter_count(generator)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "dcgn"}, "did you mean 'dcgan'"),
        ({"norm": "batch"}, "norm 'batch' is unknown"),
        ({"output": "sigmoid"}, "output 'sigmoid' is unknown"),
        ({"generator_channels": ()}, "generator_channels"),
        ({"shape": (130, 130, 130)}, "generator_channels: shape 130x130x130"),
    ],
)
def test_rejects_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_rejects_inputs() -> None:
    with pytest.raises(ConfigError, match=r"z must be \[B, 6\]"):
        small()(torch.randn(2, 5))
    with pytest.raises(ConfigError, match="without classes"):
        small()(torch.randn(2, 6), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="missing"):
        small(num_classes=2)(torch.randn(2, 6))
    with pytest.raises(ConfigError, match="label 2"):
        small(num_classes=2)(torch.randn(2, 6), torch.tensor([0, 2]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folded_ends_keep_shape_and_layout(architecture: str) -> None:
    generator = small(architecture=architecture, shape=(16, 16, 12), channels=2, fold=(2, 2, 1))
    volumes = generator(torch.randn(2, 6))
    assert volumes.shape == (2, 2, 16, 16, 12)
    assert volumes.is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(ConfigError, match="axis 2 of shape 16x16x12 is not divisible by fold 5"):
        small(shape=(16, 16, 12), fold=(1, 1, 5))


def test_smooth_output_filters_the_last_layer() -> None:
    rough, smoothed = (small(shape=(16, 16, 12), smooth_output=on) for on in (False, True))
    smoothed.load_state_dict(rough.state_dict())
    z = torch.randn(2, rough.latent_dim)
    expected = HEADROOM * torch.tanh(smooth(torch.atanh(rough(z).double() / HEADROOM)))
    torch.testing.assert_close(smoothed(z).double(), expected, rtol=1e-4, atol=1e-5)
