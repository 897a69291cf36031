"""NormAct3d: what it computes per norm, and its condition."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import group_norm, leaky_relu

from fastgan.errors import ConfigError
from fastgan.nn import NORMS, NormAct3d

GROUPS = {"instance": 12, "group": 6, "layer": 1}


@pytest.mark.parametrize("norm", GROUPS)
def test_forward_matches_reference(norm: str) -> None:
    module = NormAct3d(12, norm).double()
    torch.nn.init.normal_(module.weight)
    torch.nn.init.normal_(module.bias)
    x = torch.randn(3, 12, 4, 3, 5, dtype=torch.float64)
    expected = leaky_relu(group_norm(x, GROUPS[norm], module.weight, module.bias, 1e-5), 0.2)
    torch.testing.assert_close(module(x), expected)


def test_without_norm_is_bias_and_activation() -> None:
    module = NormAct3d(2, "none", negative_slope=0.5)
    module.bias.data = torch.tensor([1.0, -1.0])
    x = torch.tensor([-2.0, 3.0]).view(1, 2, 1, 1, 1)
    assert module(x).flatten().tolist() == [-0.5, 2.0]


@pytest.mark.parametrize("norm", GROUPS)
def test_condition_starts_as_identity(norm: str) -> None:
    x = torch.randn(4, 12, 4, 3, 5)
    labels = torch.tensor([0, 1, 2, 0])
    conditional = NormAct3d(12, norm, num_classes=3)
    torch.testing.assert_close(conditional(x, labels), NormAct3d(12, norm)(x))


def test_condition_acts_per_sample() -> None:
    module = NormAct3d(4, "instance", num_classes=2, negative_slope=1.0)
    with torch.no_grad():
        module.affine.weight[1] = torch.tensor([2.0] * 4 + [3.0] * 4)
    x = torch.randn(2, 4, 4, 4, 4)
    plain = NormAct3d(4, "instance", negative_slope=1.0)(x)
    y = module(x, torch.tensor([0, 1]))
    torch.testing.assert_close(y[0], plain[0])
    torch.testing.assert_close(y[1], 2 * plain[1] + 3)


@pytest.mark.parametrize("norm", NORMS)
def test_layouts(norm: str) -> None:
    x = torch.randn(2, 8, 4, 6, 3).contiguous(memory_format=torch.channels_last_3d)
    x.requires_grad_()
    y = NormAct3d(8, norm)(x)
    (g,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert g.is_contiguous(memory_format=torch.channels_last_3d)


def test_rejects_unknown_norm() -> None:
    with pytest.raises(ConfigError, match="'instanc' is unknown; did you mean 'instance'"):
        NormAct3d(4, "instanc")


def test_rejects_condition_without_norm() -> None:
    with pytest.raises(ConfigError, match="no affine"):
        NormAct3d(4, "none", num_classes=2)


def test_rejects_missing_labels() -> None:
    with pytest.raises(ConfigError, match="labels are missing"):
        NormAct3d(4, "layer", num_classes=2)(torch.randn(1, 4, 2, 2, 2))
