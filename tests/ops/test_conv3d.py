from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan.errors import ConfigError
from fastgan.ops import conv3d
from fastgan.reference.conv3d import conv3d as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    weight: tuple[int, ...]
    settings: dict[str, Any]
    bias: bool = True

    def __str__(self) -> str:
        settings = "-".join(f"{k}{v}" for k, v in self.settings.items())
        sizes = "-".join("x".join(map(str, s)) for s in (self.x, self.weight))
        return f"{sizes}-{settings}".replace(" ", "")


CASES = [
    Case((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), {}),
    Case((2, 1, 8, 8, 8), (3, 1, 4, 4, 4), {"stride": 2, "padding": 1}),
    Case((2, 3, 5, 6, 7), (4, 3, 3, 3, 3), {"padding": 1}, bias=False),
    Case(
        (1, 4, 6, 5, 4), (6, 2, 3, 2, 1), {"groups": 2, "stride": (2, 1, 3), "padding": (1, 0, 2)}
    ),
    Case((2, 2, 7, 7, 7), (1, 2, 3, 3, 3), {"dilation": (2, 1, 3), "stride": 2}),
    Case((1, 17, 4, 4, 4), (19, 17, 4, 4, 4), {}),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    shapes = [case.x, case.weight, case.weight[:1] if case.bias else None]
    return [None if s is None else torch.randn(s).bfloat16().to(device, dtype) for s in shapes]


def both(case: Case) -> tuple[Any, Any]:
    return (
        lambda x, w, b: conv3d(x, w, b, **case.settings),
        lambda x, w, b: reference(x, w, b, **case.settings),
    )


def double(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if v is None else v.double().cpu() for v in values]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(case, dtype, device, orders, close) -> None:
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


SMALL = [CASES[3], CASES[4]]


def leaves(case: Case) -> list[Tensor]:
    small = case._replace(x=(1, case.x[1], *(min(n, 5) for n in case.x[2:])))
    if "dilation" in case.settings:
        small = small._replace(x=case.x)
    values = inputs(small, torch.float64, torch.device("cpu"))
    return [v.requires_grad_() for v in values if v is not None]


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_gradcheck(small: Case) -> None:
    assert torch.autograd.gradcheck(both(small)[0], leaves(small), fast_mode=True)


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_gradgradcheck(small: Case) -> None:
    assert torch.autograd.gradgradcheck(both(small)[0], leaves(small), fast_mode=True)


def test_third_order() -> None:
    # A closed family has them all: here the derivative of the squared second-order terms.
    x, w, _ = leaves(CASES[3])
    y = conv3d(x, w, groups=2)
    (d_x,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (d_w,) = torch.autograd.grad(d_x.square().sum(), w, create_graph=True)
    found = torch.autograd.grad(d_w.square().sum(), (x, w))
    z = reference(x, w, groups=2)
    (d_x,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
    (d_w,) = torch.autograd.grad(d_x.square().sum(), w, create_graph=True)
    expected = torch.autograd.grad(d_w.square().sum(), (x, w))
    torch.testing.assert_close(found, expected)


GEOMETRY = ([2, 1, 1], [1, 0, 0], [1, 1, 1], 1)


def test_opcheck(device) -> None:
    from fastgan.ops.conv3d_passes import conv_dgrad, conv_fprop, conv_wgrad

    x = torch.randn(2, 3, 5, 4, 4, device=device, requires_grad=True)
    w = torch.randn(4, 3, 3, 2, 2, device=device, requires_grad=True)
    b = torch.randn(4, device=device, requires_grad=True)
    g = torch.randn(2, 4, 3, 3, 3, device=device, requires_grad=True)
    for form in (torch.contiguous_format, torch.channels_last_3d):
        x, g = (t.detach().to(memory_format=form).requires_grad_() for t in (x, g))
        torch.library.opcheck(conv_fprop, (x, w, b, *GEOMETRY))
        torch.library.opcheck(conv_fprop, (x, w, None, *GEOMETRY))
        torch.library.opcheck(conv_dgrad, (g, w, [5, 4, 4], *GEOMETRY))
        torch.library.opcheck(conv_wgrad, (g, x, [3, 2, 2], *GEOMETRY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, device, close) -> None:
    x = torch.randn(2, 4, 6, 6, 12, device=device).to(dtype)
    w = torch.randn(5, 4, 3, 3, 3, device=device).to(dtype)
    last = torch.channels_last_3d
    layouts = {
        "NCDHW": (x, torch.contiguous_format),
        "NDHWC": (x.to(memory_format=last), last),
        "sliced NCDHW": (x[..., ::2], torch.contiguous_format),
        "sliced NDHWC": (x.to(memory_format=last)[..., ::2], last),
        "expanded": (x[:1].expand(3, -1, -1, -1, -1), torch.contiguous_format),
    }
    for values, form in layouts.values():
        values = values.detach().requires_grad_()
        y = conv3d(values, w.requires_grad_(), padding=1)
        assert y.is_contiguous(memory_format=form)
        d_x, d_w = torch.autograd.grad(y.sin().sum(), (values, w), create_graph=True)
        assert d_x.is_contiguous(memory_format=form)
        z = reference(values.double(), w.double(), padding=1)
        expected = torch.autograd.grad(z.sin().sum(), (values, w))
        close([y.detach(), d_x, d_w], [z.detach(), *expected], dtype)


def test_one_channel_goes_to_channels_last(device) -> None:
    x = torch.randn(2, 1, 4, 4, 4, device=device)
    y = conv3d(x, torch.randn(3, 1, 3, 3, 3, device=device))
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_empty(device) -> None:
    x = torch.zeros(0, 3, 4, 4, 4, device=device, requires_grad=True)
    w, b = torch.randn(2, 3, 3, 3, 3, device=device), torch.randn(2, device=device)
    w, b = w.requires_grad_(), b.requires_grad_()
    y = conv3d(x, w, b)
    assert y.shape == (0, 2, 2, 2, 2)
    d_x, d_w, d_b = torch.autograd.grad(y.sum(), (x, w, b), create_graph=True)
    assert d_x.shape == x.shape
    assert torch.equal(d_w, torch.zeros_like(w)) and torch.equal(d_b, torch.zeros_like(b))
    (dd_w,) = torch.autograd.grad(d_x.sum(), w)
    assert torch.equal(dd_w, torch.zeros_like(w))


X, W = torch.zeros(1, 4, 3, 3, 3), torch.zeros(2, 4, 3, 3, 3)
REJECTED = [
    ((X[0], W), {}, r"conv3d: x must be \[B, C, D, H, W\], got \[4, 3, 3, 3\]"),
    ((X, W[0]), {}, r"weight must be \[K, C, kD, kH, kW\]"),
    ((X, W[:, :3]), {}, r"weight must be \[K, 4 / groups"),
    ((X, W), {"groups": 2}, r"groups = 2, got \[2, 4"),
    ((X, W), {"groups": 0}, r"groups must be >= 1, got 0"),
    ((X, torch.zeros(3, 2, 1, 1, 1)), {"groups": 2}, r"K divisible by groups = 2"),
    ((X, W, torch.zeros(3)), {}, r"bias must be \[K\], got \[3\]"),
    ((X, W), {"stride": 0}, r"stride must be an int or three ints >= 1, got 0"),
    ((X, W), {"stride": (1, 1)}, r"stride must be an int or three ints"),
    ((X, W), {"padding": -1}, r"padding must be an int or three ints >= 0, got -1"),
    ((X, W), {"dilation": 2}, r"x must be at least as large as the kernel"),
    ((X, W.double()), {}, r"weight must be torch.float32 like x, got torch.float64"),
    ((X, W.to("meta")), {}, r"weight must be on cpu like x, got meta"),
    ((X.int(), W.int()), {}, r"x must be float16, bfloat16, float32 or float64"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        conv3d(*args, **settings)


def test_deterministic(device, orders) -> None:
    case = CASES[2]
    values = inputs(case, torch.float32, device)
    once, again = orders(both(case)[0], values), orders(both(case)[0], values)
    assert all(
        torch.equal(a, b) for a, b in zip(list(chain(*once)), list(chain(*again)), strict=True)
    )


@pytest.mark.parametrize(
    ("form", "backend"), [("autograd.grad", "aot_eager"), ("torch.func.grad", "inductor")]
)
def test_compile(form, backend, compiled, loss_with_penalty) -> None:
    settings = {"stride": 2, "padding": 1}
    x, w = torch.randn(2, 2, 6, 6, 6).double(), torch.randn(3, 2, 3, 3, 3).double()
    b = torch.randn(3).double()
    x, w, b = (t.requires_grad_() for t in (x, w, b))
    stock = loss_with_penalty(form, lambda *t: reference(*t, **settings), x, w, b)
    run = compiled(
        lambda *t: loss_with_penalty(form, lambda *s: conv3d(*s, **settings), *t), backend
    )
    ours = run(x, w, b)
    torch.testing.assert_close(ours, stock)
    found = torch.autograd.grad(ours, (x, w, b))
    torch.testing.assert_close(found, torch.autograd.grad(stock, (x, w, b)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype, close, orders) -> None:
    case = CASES[2]
    values = inputs(case, torch.float32, torch.device("cpu"))
    with torch.autocast("cpu", dtype):
        assert conv3d(*values[:2], padding=1).dtype == dtype
        found = orders(both(case)[0], values)
    assert all(d.dtype == torch.float32 for d in found[1])
    expected = orders(both(case)[1], double(values))
    close(list(chain(*found)), list(chain(*expected)), torch.bfloat16)


class Passes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "convolution" in str(func):
            self.seen.append(f"{func}{args[-1] if 'backward' in str(func) else ''}")
        return func(*args, **(kwargs or {}))


def test_one_pass_an_operator() -> None:
    from fastgan.ops.conv3d_passes import dgrad, fprop, wgrad

    x, w, g = torch.randn(1, 2, 4, 4, 4), torch.randn(3, 2, 2, 2, 2), torch.randn(1, 3, 3, 3, 3)
    plain = ([1] * 3, [0] * 3, [1] * 3, 1)
    with Passes() as passes:
        fprop(x, w, None, *plain)
        dgrad(g, w, [4, 4, 4], *plain)
        wgrad(g, x, [2, 2, 2], *plain)
    assert passes.seen == [
        "aten.convolution.default",
        "aten.convolution_backward.default[True, False, False]",
        "aten.convolution_backward.default[False, True, False]",
    ]
