"""PyTorch's linear layer, with parameters that are lent."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan.nn import Linear
from fastgan.ops.casts import lent

HALF = torch.bfloat16


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_same_as_pytorch_s(bias: bool, half: bool) -> None:
    torch.manual_seed(0)
    ours, stock = Linear(5, 3, bias=bias), nn.Linear(5, 3, bias=bias)
    stock.load_state_dict(ours.state_dict())
    x = torch.randn(4, 5)
    found = []
    for module in (ours, stock):
        held = lent(list(ours.parameters()), HALF if half else None)
        with held as loans, torch.autocast("cpu", HALF, enabled=half):
            y = module(x) + 2 * module(2 * x)
        y.float().square().sum().backward()
        loans.collect()
        found.append([y, *(p.grad for p in module.parameters())])
    for a, b in zip(*found, strict=True):
        # Autocast adds up the gradients of both uses at half width, where ours are not rounded.
        torch.testing.assert_close(a, b, rtol=half * 1e-2, atol=half * 1e-2)
    assert found[0][0].dtype == (HALF if half else torch.float32)


def test_float64_is_left_alone_by_autocast() -> None:
    with torch.autocast("cpu", HALF):
        assert Linear(2, 1).double()(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_is_a_linear_layer_of_pytorch() -> None:
    module = torch.nn.utils.parametrizations.spectral_norm(Linear(4, 4))
    assert isinstance(module, nn.Linear) and module(torch.ones(1, 4)).shape == (1, 4)
