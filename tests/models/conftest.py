"""The operators that critics are made of, as stock PyTorch writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor
from torch.nn import functional

from fastgan import ops


def stock_norm_act(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    eps: float,
    negative_slope: float,
    statistics: Tensor | None = None,
) -> Tensor:
    y = functional.group_norm(x, num_groups, weight, bias, eps)
    return functional.leaky_relu(y, negative_slope)


def stock_bias_act(x: Tensor, bias: Tensor, *, negative_slope: float) -> Tensor:
    return functional.leaky_relu(x + bias.view(-1, 1, 1, 1), negative_slope)


def stock_norm_act_conv(
    z: Tensor,
    statistics: Tensor,
    weight: Tensor,
    bias: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    *,
    next_groups: int,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    **norm: Any,
) -> tuple[Tensor, None]:
    a = stock_norm_act(z, weight, bias, **norm)
    return functional.conv3d(a, conv_weight, conv_bias, stride, padding), None


@pytest.fixture
def use_stock_operators(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it replaces the operators of `fastgan.ops` until the test ends."""

    def replace() -> None:
        monkeypatch.setattr(ops, "conv3d", functional.conv3d)
        monkeypatch.setattr(ops, "norm_act", stock_norm_act)
        monkeypatch.setattr(ops, "norm_act_conv", stock_norm_act_conv)
        monkeypatch.setattr(ops, "bias_act", stock_bias_act)

    return replace
