"""Classifiers: shapes, the encoder's place in them, what they refuse, and that they learn."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fastgan.errors import ConfigError
from fastgan.models import build_classifier

SHAPES = [(16, 16, 16), (32, 16, 6), (18, 12, 10), (48, 24, 8), (2, 2, 2), (12, 16, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_any_even_shape(shape):
    model = build_classifier(shape=shape, num_classes=3, channels=2, classifier_channels=(4, 6, 8))
    x = torch.randn(2, 2, *shape)
    assert model(x).shape == (2, 3)
    assert model.features(x).shape == (2, model.num_features) == (2, 64)


def test_logits_are_linear_in_the_features():
    model = build_classifier(shape=(16, 16, 16), num_classes=4, classifier_channels=(4, 8))
    x = torch.randn(3, 1, 16, 16, 16)
    expected = functional.linear(model.features(x), model.head.weight, model.head.bias)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("norm", ["none", "group", "instance"])
def test_every_parameter_has_a_gradient(norm):
    model = build_classifier(
        shape=(16, 16, 8), num_classes=2, classifier_channels=(4, 8, 8), norm=norm
    )
    loss = functional.cross_entropy(model(torch.randn(4, 1, 16, 16, 8)), torch.tensor([0, 1, 0, 1]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_learns_the_size_of_a_ball():
    torch.manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 16)] * 3, indexing="ij")
    distance = sum(a.square() for a in axes).sqrt()
    labels = torch.arange(32) % 2
    radius = 0.4 + 0.2 * labels + 0.05 * torch.rand(32)
    x = (radius[:, None, None, None] > distance).float()[:, None] * 2 - 1
    model = build_classifier(shape=(16, 16, 16), num_classes=2, classifier_channels=(8, 16))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        optimiser.step()
    assert torch.equal(model(x).argmax(1), labels)


def test_batches_do_not_couple_samples():
    model = build_classifier(shape=(16, 16, 16), num_classes=2, classifier_channels=(4, 8))
    x = torch.randn(3, 1, 16, 16, 16)
    assert torch.allclose(model(x)[1:2], model(x[1:2]), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 1}, "at least two classes"),
        ({"norm": "batch"}, "norm 'batch' is unknown"),
        ({"classifier_channels": ()}, "positive numbers"),
        ({"shape": (199, 199, 199)}, "classifier_channels: shape 199x199x199"),
    ],
    ids=["classes", "norm", "channels", "shape"],
)
def test_rejects_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_classifier(**{"shape": (16, 16, 16), "num_classes": 2, **settings})


def test_rejects_other_volumes():
    model = build_classifier(shape=(16, 16, 16), num_classes=2, classifier_channels=(4,))
    with pytest.raises(ConfigError, match=r"x must be \[B, 1, 16, 16, 16\]"):
        model(torch.randn(1, 1, 16, 16, 8))
