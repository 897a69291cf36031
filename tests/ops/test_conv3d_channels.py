"""Convolutions between 16 n channels through their operators, by Triton in the interpreter.

Of the kernels themselves see test_conv3d_triton.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastgan.kernels import conv3d as kernels
from fastgan.ops import (
    conv3d,
    conv_transpose3d,
    gradient_penalty,
    group_statistics,
    implementation,
    norm_act_conv,
    norm_act_conv_transpose,
)
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.triton import runtime

pytestmark = pytest.mark.skipif(not runtime.interpreted, reason="needs Triton's interpreter")
LAST = torch.channels_last_3d


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Triton is forced; the passes that it runs."""
    passes: list[str] = []

    def spied(right: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            gathers = "fprop" if settings.get("size") is None else "dgrad"
            passes.append("wgrad" if "of_g" in settings else gathers)
            return right(*args, **settings)

        return call

    for name in ("conv3d_gather", "conv3d_wgrad"):
        monkeypatch.setattr(kernels, name, spied(getattr(kernels, name)))
    with implementation("triton"):
        yield passes


def volume(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=LAST)


def orders(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Value, first and second derivatives, by cotangents channels last, as a chain has."""
    draw = torch.Generator().manual_seed(1)

    def cotangent(t: Tensor) -> Tensor:
        values = torch.randn(t.shape, generator=draw, dtype=t.dtype)
        return values.contiguous(memory_format=LAST) if t.dim() == 5 else values

    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    g = cotangent(y).requires_grad_()
    first = torch.autograd.grad(y, leaves, g, create_graph=True)
    tested = sum(((d * cotangent(d)).sum() for d in first), torch.zeros(()))
    second = torch.autograd.grad(tested, [g, *leaves], allow_unused=True)
    both = zip(second, (g, *leaves), strict=True)
    return [y.detach(), *first, *(torch.zeros_like(t) if d is None else d for d, t in both)]


def behind_norm(transposed: bool, **geometry: int) -> tuple[Callable[..., Tensor], ...]:
    def ours(z: Tensor, w: Tensor, b: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        function = norm_act_conv_transpose if transposed else norm_act_conv
        statistics = group_statistics(z, num_groups=4)
        settings = {"num_groups": 4, "next_groups": 0} | geometry
        return function(z, statistics, w, b, weight, bias, **settings)[0]

    def stock(z: Tensor, w: Tensor, b: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        function = functional.conv_transpose3d if transposed else functional.conv3d
        a = functional.leaky_relu(functional.group_norm(z, 4, w, b), 0.2)
        return function(a, weight, bias, **geometry)

    return ours, stock


BARE = [
    (conv3d, functional.conv3d, {"padding": 1}, (1, 16, 2, 2, 3), (16, 16, 3, 3, 3)),
    (conv3d, functional.conv3d, {"stride": 2, "padding": 1}, (1, 16, 2, 2, 4), (16, 16, 4, 4, 4)),
    (
        conv_transpose3d,
        functional.conv_transpose3d,
        {"stride": 2, "padding": 1},
        (1, 16, 1, 1, 2),
        (16, 16, 4, 4, 4),
    ),
]


@pytest.mark.parametrize(("ours", "stock", "geometry", "x", "weight"), BARE)
def test_every_order_matches_pytorch(ours, stock, geometry, x, weight, close, launched) -> None:
    values = [volume(*x), volume(*weight), torch.randn(16).double()]
    found = orders(lambda *t: ours(*t, **geometry), values)
    assert set(launched) == {"fprop", "dgrad", "wgrad"}
    expected = orders(lambda *t: stock(*t, **geometry), values)
    close(found, expected, torch.float64)


@pytest.mark.parametrize("transposed", [False, True])
def test_every_order_behind_a_norm_matches_pytorch(transposed, close, launched) -> None:
    kernel, geometry = (4, {"stride": 2, "padding": 1}) if transposed else (3, {"padding": 1})
    z, ends = volume(1, 16, 1 if transposed else 2, 1, 3), (16, 16)
    values = [z, torch.randn(16).double(), torch.randn(16).double()]
    values += [volume(*ends, *[kernel] * 3), torch.randn(16).double()]
    ours, stock = behind_norm(transposed, **geometry)
    found = orders(ours, values)
    assert set(launched) == {"fprop", "dgrad", "wgrad"}
    close(found, orders(stock, values), torch.float64)


def test_gradcheck_and_gradgradcheck() -> None:
    x, weight = volume(1, 16, 1, 1, 2), volume(16, 16, 1, 1, 1)
    inputs = [t.requires_grad_() for t in (x, weight, torch.randn(16).double())]
    assert torch.autograd.gradcheck(conv3d, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(conv3d, inputs, fast_mode=True)
    affine = [torch.randn(16).double() for _ in range(2)]
    ours, _ = behind_norm(False)
    bias = torch.randn(16).double()

    def of(z: Tensor, weight: Tensor) -> Tensor:
        return ours(z, *affine, weight, bias)

    assert torch.autograd.gradgradcheck(of, inputs[:2], fast_mode=True)


def test_penalty_reaches_parameters(launched) -> None:
    """Loss and penalty of a critic, gradients of all parameters beside PyTorch's own path."""
    x, other = volume(1, 16, 2, 2, 2), volume(1, 16, 2, 2, 2)
    parameters = [volume(16, 16, 1, 1, 1), torch.randn(16).double(), volume(16, 16, 1, 1, 1)]

    def loss_and_gradients() -> list[Tensor]:
        first, bias, second = leaves = [p.clone().requires_grad_() for p in parameters]

        def score(x: Tensor) -> Tensor:
            z = conv3d(x, first, bias)
            statistics = group_statistics(z, num_groups=16)
            y, _ = norm_act_conv(z, statistics, None, None, second, num_groups=16, next_groups=0)
            return y.sin().sum((1, 2, 3, 4))

        generator = torch.Generator().manual_seed(0)
        penalty, _ = gradient_penalty(score, x, other, generator=generator)
        loss = score(x).mean() + 10 * penalty
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    found = loss_and_gradients()
    assert launched.count("wgrad") >= 4
    with implementation("reference"):
        expected = loss_and_gradients()
    for ours, stock in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-10, atol=1e-10)
        assert stock.abs().max() > 0


REFUSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 8, 3, 3, 3), (16, 8, 3, 3, 3), {}),
    ((1, 16, 3, 3, 3), (8, 16, 3, 3, 3), {}),
    ((1, 16, 5, 5, 5), (16, 16, 3, 3, 3), {"dilation": 2}),
    ((1, 32, 3, 3, 3), (32, 16, 3, 3, 3), {"groups": 2}),
    ((1, 16, 5, 5, 5), (16, 16, 5, 5, 5), {}),
    ((1, 16, 3, 3, 3), (16, 16, 3, 3, 3), {"stride": 2}),
    ((1, 16, 3, 3, 3), (16, 16, 3, 3, 3), {"padding": 3}),
]


@pytest.mark.parametrize(("x", "weight", "geometry"), REFUSED)
def test_what_they_do_not_serve_is_the_librarys(x, weight, geometry, close, launched) -> None:
    values = [volume(*x), volume(*weight)]
    found = orders(lambda *t: conv3d(*t, **geometry), values)
    expected = orders(lambda *t: functional.conv3d(*t, None, **geometry), values)
    close(found, expected, torch.float64)
    assert launched == []


def test_layouts(close, launched) -> None:
    """Channels first stays with the library, whose result has the same layout."""
    x, weight = volume(1, 16, 2, 2, 2).contiguous(), volume(16, 16, 1, 1, 1)
    assert conv3d(x, weight).is_contiguous() and launched == []
    last = conv3d(x.contiguous(memory_format=LAST), weight)
    assert last.is_contiguous(memory_format=LAST) and launched == ["fprop"]
    close([last], [functional.conv3d(x, weight)], torch.float64)


def test_only_what_is_forced_or_proven_is_taken(launched, monkeypatch) -> None:
    x, weight = volume(1, 16, 2, 2, 2, dtype=torch.float32), volume(16, 16, 1, 1, 1).float()
    for name in ("auto", "reference", "native"):
        with implementation(name):
            conv3d(x, weight)
            assert dispatch.choose("conv3d_channels", x) == "reference"
    assert launched == []
    # As on a GPU where the trial has proven it.
    monkeypatch.setattr(dispatch, "_obstacle", lambda op, name, x, **_: None)
    with implementation("auto"):
        conv3d(x, weight)
    assert launched == ["fprop"]
