"""Loss and penalty of whole critics of fastgan.nn, compiled: every parameter's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastgan.nn import ConvChain, ConvNormAct3d

Score = Callable[[Tensor], Tensor]


def critic(norm: str) -> nn.Module:
    """Float64, so that any difference is one of formula; the norm sits inside a chain."""
    stages = [
        ConvNormAct3d(2, 4, stride=(2, 2, 2), norm="none"),
        ConvNormAct3d(4, 4, stride=(2, 2, 2), norm=norm),
        nn.Flatten(),
        nn.Linear(32, 1),
    ]
    return ConvChain(*stages).double()


def stock(ours: nn.Module) -> nn.Sequential:
    """The same critic of torch.nn, with the same parameters in the same order."""
    first, second, _, linear = ours
    layers: list[nn.Module] = []
    for stage in (first, second):
        conv = nn.Conv3d(*stage.conv.weight.shape[1::-1], 4, 2, 1, bias=False)
        conv.weight = stage.conv.weight
        layers += [conv, Affine(stage.norm_act), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), linear)


class Affine(nn.Module):
    """Instance norm, weight and bias, or the bias alone."""

    def __init__(self, norm_act: Any) -> None:
        super().__init__()
        self.normed = norm_act.norm == "instance"
        self.bias = norm_act.bias
        self.weight = norm_act.weight if self.normed else None

    def forward(self, x: Tensor) -> Tensor:
        if self.normed:
            return nn.functional.instance_norm(x, weight=self.weight, bias=self.bias)
        return x + self.bias.view(-1, 1, 1, 1)


def loss(form: str, net: nn.Module, x: Tensor) -> Tensor:
    if form == "autograd.grad":
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    else:
        slope = torch.func.grad(lambda t: net(t).sum())(x)
    return net(x).sin().mean() + 10 * (slope.square().sum((1, 2, 3, 4)).sqrt() - 1).square().mean()


CASES = [
    *((norm, form, "eager") for norm in ("none", "instance") for form in ("autograd.grad", "func")),
    ("none", "autograd.grad", "aot_eager"),
    ("instance", "func", "aot_eager"),
    ("none", "func", "inductor"),
    ("instance", "autograd.grad", "inductor"),
]


@pytest.mark.parametrize(("norm", "form", "backend"), CASES)
def test_penalty_reaches_every_parameter(norm, form, backend, compiled) -> None:
    ours = critic(norm)
    x = torch.randn(3, 2, 8, 8, 8, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in ours.named_parameters()]
    parameters = list(ours.parameters())
    expected_loss = loss("autograd.grad", stock(ours), x)
    expected = torch.autograd.grad(expected_loss, parameters)
    found_loss = compiled(lambda x: loss(form, ours, x), backend)(x)
    found = torch.autograd.grad(found_loss, parameters)
    torch.testing.assert_close(found_loss, expected_loss)
    for name, f, e in zip(names, found, expected, strict=True):
        assert e.abs().max() > 1e-6, f"{name} is not tested"
        torch.testing.assert_close(f, e, msg=f"{name}, {norm}, {form}, {backend}")
