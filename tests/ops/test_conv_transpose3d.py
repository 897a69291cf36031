from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import conv_transpose3d
from fastgan.reference.conv_transpose3d import conv_transpose3d as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    weight: tuple[int, ...]
    settings: dict[str, Any]
    bias: bool = True

    def __str__(self) -> str:
        sizes = "-".join("x".join(map(str, s)) for s in (self.x, self.weight))
        return f"{sizes}-{self.settings}".replace(" ", "")


CASES = [
    Case((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), {}),
    Case((2, 7, 1, 1, 1), (7, 3, 4, 4, 4), {}),
    Case((2, 3, 3, 4, 5), (3, 2, 4, 4, 4), {"stride": 2, "padding": 1}, bias=False),
    Case(
        (1, 2, 3, 2, 4),
        (2, 17, 3, 2, 3),
        {"stride": (2, 1, 3), "padding": (1, 0, 1), "output_padding": (1, 0, 2)},
    ),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    shapes = [case.x, case.weight, case.weight[1:2] if case.bias else None]
    return [None if s is None else torch.randn(s).bfloat16().to(device, dtype) for s in shapes]


def both(case: Case) -> tuple[Any, Any]:
    return (
        lambda x, w, b: conv_transpose3d(x, w, b, **case.settings),
        lambda x, w, b: reference(x, w, b, **case.settings),
    )


def double(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if v is None else v.double().cpu() for v in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(case, dtype, device, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    close([ours(*values)], [stock(*double(values))], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_matches_reference(case, dtype, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    close(orders(ours, values)[1], orders(stock, double(values))[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_order_matches_reference(case, dtype, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    close(orders(ours, values)[2], orders(stock, double(values))[2], dtype)


def leaves() -> list[Tensor | None]:
    values = inputs(CASES[3], torch.float64, torch.device("cpu"))
    return [v.requires_grad_() for v in values if v is not None]


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(both(CASES[3])[0], leaves(), fast_mode=True)


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(both(CASES[3])[0], leaves(), fast_mode=True)


# test_opcheck: the operators are those of conv3d, checked there.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, device, close) -> None:
    x = torch.randn(2, 4, 3, 3, 6, device=device).to(dtype)
    w = torch.randn(4, 5, 4, 4, 4, device=device).to(dtype)
    last = torch.channels_last_3d
    for values, form in (
        (x, torch.contiguous_format),
        (x.to(memory_format=last), last),
        (x[..., ::2], torch.contiguous_format),
        (x.to(memory_format=last)[..., ::2], last),
    ):
        y = conv_transpose3d(values, w, stride=2, padding=1)
        assert y.is_contiguous(memory_format=form)
        close([y], [reference(values.double(), w.double(), stride=2, padding=1)], dtype)


def test_one_voxel_goes_to_channels_last(device) -> None:
    y = conv_transpose3d(torch.randn(2, 5, 1, 1, 1, device=device), torch.randn(5, 3, 4, 4, 4))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_empty(device) -> None:
    x = torch.zeros(0, 3, 2, 2, 2, device=device, requires_grad=True)
    w = torch.randn(3, 2, 2, 2, 2, device=device, requires_grad=True)
    y = conv_transpose3d(x, w, stride=2)
    assert y.shape == (0, 2, 4, 4, 4)
    d_x, d_w = torch.autograd.grad(y.sum(), (x, w))
    assert d_x.shape == x.shape and torch.equal(d_w, torch.zeros_like(w))


X, W = torch.zeros(1, 4, 3, 3, 3), torch.zeros(4, 2, 3, 3, 3)
REJECTED = [
    ((X[0], W), {}, r"conv_transpose3d: x must be \[B, C, D, H, W\], got \[4, 3, 3, 3\]"),
    ((X, W[0]), {}, r"weight must be \[4, K, kD, kH, kW\]"),
    ((X, W[:3]), {}, r"weight must be \[4, K, kD, kH, kW\], got \[3"),
    ((X, W, torch.zeros(3)), {}, r"bias must be \[K\], got \[3\]"),
    ((X, W), {"stride": 0}, r"stride must be an int or three ints >= 1"),
    ((X, W), {"output_padding": 1}, r"output_padding must be smaller than stride"),
    ((X, W), {"padding": 3}, r"padding must leave at least one output voxel"),
    ((X, W.double()), {}, r"weight must be torch.float32 like x"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        conv_transpose3d(*args, **settings)


def test_deterministic(device, orders) -> None:
    values = inputs(CASES[2], torch.float32, device)
    once, again = orders(both(CASES[2])[0], values), orders(both(CASES[2])[0], values)
    assert all(
        torch.equal(a, b) for a, b in zip(list(chain(*once)), list(chain(*again)), strict=True)
    )


@pytest.mark.parametrize(
    ("form", "backend"), [("autograd.grad", "aot_eager"), ("torch.func.grad", "aot_eager")]
)
def test_compile(form, backend, compiled, loss_with_penalty) -> None:
    ours, stock = both(CASES[3])
    x, w, b = leaves()
    expected = loss_with_penalty(form, stock, x, w, b)
    found = compiled(lambda *t: loss_with_penalty(form, ours, *t), backend)(x, w, b)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (x, w, b))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, w, b)))


def test_autocast(close) -> None:
    x, w, b = torch.randn(1, 3, 2, 2, 2), torch.randn(3, 2, 2, 2, 2), torch.randn(2)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv_transpose3d(x, w, b)
    assert y.dtype == torch.bfloat16
    close([y], [reference(x.double(), w.double(), b.double())], torch.bfloat16)
