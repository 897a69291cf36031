from __future__ import annotations

import math
from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import group_statistics, implementation, norm_act
from fastgan.ops.norm_act import norm_act_apply, norm_act_bwd, norm_act_bwd_bwd, norm_act_fwd
from fastgan.reference.norm_act import norm_act as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    num_groups: int
    affine: str = "C"  # the shape of weight and bias: "C", "BC", "weight", "bias" or "none"
    slope: float = 0.2
    eps: float = 1e-5

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.x))}-G{self.num_groups}-{self.affine}-{self.slope}"


CASES = [
    Case((1, 1, 2, 1, 1), 1),
    Case((2, 5, 3, 4, 5), 5),
    Case((2, 6, 3, 3, 3), 2, "BC"),
    Case((3, 4, 2, 3, 2), 1, "none"),
    Case((2, 3, 7, 7, 7), 3, "weight", slope=0.0),
    Case((2, 8, 11), 4, "bias", slope=1.0, eps=0.3),
    Case((2, 32, 9, 8, 8), 8, slope=0.1),
    Case((4, 12), 3),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    shape = case.x[:2] if case.affine == "BC" else case.x[1:2]
    values: list[Tensor | None] = [1 + 2 * torch.randn(case.x)]
    for name in ("weight", "bias"):
        values.append(torch.randn(shape) if case.affine in ("C", "BC", name) else None)
    return [None if v is None else v.bfloat16().to(device, dtype) for v in values]


def both(case: Case) -> tuple[Any, Any]:
    settings = {"num_groups": case.num_groups, "eps": case.eps, "negative_slope": case.slope}
    return (
        lambda x, w, b: norm_act(x, w, b, **settings),
        lambda x, w, b: reference(x, w, b, **settings),
    )


def double(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if v is None else v.double().cpu() for v in values]


@pytest.fixture(params=["auto", "reference"])
def chosen(request: pytest.FixtureRequest) -> Any:
    with implementation(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(case, dtype, device, chosen, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    y = ours(*values)
    assert y.dtype == dtype
    close([y], [stock(*double(values))], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_matches_reference(case, dtype, device, chosen, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    close(orders(ours, values)[1], orders(stock, double(values))[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_order_matches_reference(case, dtype, device, chosen, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case)
    close(orders(ours, values)[2], orders(stock, double(values))[2], dtype)


SMALL = [case for case in CASES if math.prod(case.x) < 200]


def leaves(case: Case) -> list[Tensor | None]:
    values = inputs(case, torch.float64, torch.device("cpu"))
    return [None if v is None else v.requires_grad_() for v in values]


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_gradcheck(small: Case, chosen: str) -> None:
    assert torch.autograd.gradcheck(both(small)[0], leaves(small))


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_gradgradcheck(small: Case, chosen: str) -> None:
    assert torch.autograd.gradgradcheck(both(small)[0], leaves(small))


@pytest.mark.parametrize("affine", ["C", "none"])
def test_opcheck(affine, chosen, device) -> None:
    x, w, b = inputs(Case((2, 4, 3, 3, 3), 2, affine), torch.float32, device)
    for form in (torch.contiguous_format, torch.channels_last_3d):
        x = x.detach().to(memory_format=form).requires_grad_()
        _, mean, rstd = norm_act_fwd(x.detach(), w, b, 2, 1e-5, 0.2)
        g = torch.randn_like(x).requires_grad_()
        last = (g, x, mean, rstd, w, b, 2, 0.2)
        torch.library.opcheck(norm_act_fwd, (x, w, b, 2, 1e-5, 0.2))
        torch.library.opcheck(norm_act_apply, last[1:])
        torch.library.opcheck(norm_act_bwd, last)
        # Its derivative raises on purpose, so what is left to check is schema and fake kernel.
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(norm_act_bwd_bwd, (g.detach(), w, None, *last), test_utils=checks)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, device, chosen, orders, close) -> None:
    x = torch.randn(2, 4, 3, 4, 10, device=device).to(dtype)
    w, b = torch.randn(2, 4, device=device).to(dtype)
    last = torch.channels_last_3d
    layouts = [
        (x, torch.contiguous_format),
        (x.to(memory_format=last), last),
        (x[..., ::2], torch.contiguous_format),
        (x.to(memory_format=last)[..., ::2], last),
        (x[:1].expand(3, -1, -1, -1, -1), torch.contiguous_format),
    ]
    ours, stock = both(Case((), 2))
    for values, form in layouts:
        y = ours(values, w, b)
        assert y.is_contiguous(memory_format=form)
        found, expected = orders(ours, [values, w, b]), orders(stock, double([values, w, b]))
        assert found[1][0].is_contiguous(memory_format=form)
        close(list(chain(*found)), list(chain(*expected)), dtype)


def test_empty(device, chosen) -> None:
    for shape in ((0, 4, 2, 2, 2), (2, 4, 0, 2, 2)):
        x = torch.zeros(shape, device=device, requires_grad=True)
        w = torch.ones(4, device=device, requires_grad=True)
        y = norm_act(x, w, num_groups=2)
        assert y.shape == x.shape
        d_x, d_w = torch.autograd.grad(y.sum(), (x, w), create_graph=True)
        assert d_x.shape == x.shape and torch.equal(d_w, torch.zeros_like(w))
        (dd_w,) = torch.autograd.grad(d_x.sum(), w)
        assert torch.equal(dd_w, torch.zeros_like(w))


X = torch.randn(4, 3, 2, 2, 2)
REJECTED = [
    ((X[0, 0, 0, 0],), {}, r"norm_act: x must be \[B, C, ...\], got \[2\]"),
    ((X.int(),), {}, r"x must be float16, bfloat16, float32 or float64, got torch.int32"),
    ((X,), {"num_groups": 2}, r"num_groups must divide C = 3, got 2"),
    ((X,), {"num_groups": 0}, r"num_groups must divide C = 3, got 0"),
    ((X,), {"eps": 0.0}, r"eps must be > 0, got 0.0"),
    ((X[:, :, 0, 0, 0],), {}, r"a group must have more than one element"),
    ((X, torch.ones(4)), {}, r"weight must be \[C\] or \[B, C\], got \[4\]"),
    ((X, torch.ones(3, 4)), {}, r"weight must be \[C\] or \[B, C\], got \[3, 4\]"),
    ((X, None, torch.ones(2)), {}, r"bias must be \[C\] or \[B, C\], got \[2\]"),
    ((X, torch.ones(3).double()), {}, r"weight must be torch.float32 like x, got torch.float64"),
    ((X, torch.ones(3, device="meta")), {}, r"weight must be on cpu like x, got meta"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        norm_act(*args, **{"num_groups": 3, **settings})


def test_rejects_third_order() -> None:
    x = torch.randn(2, 3, 4).double().requires_grad_()
    (d_x,) = torch.autograd.grad(norm_act(x, num_groups=1).sin().sum(), x, create_graph=True)
    (dd_x,) = torch.autograd.grad(d_x.square().sum(), x, create_graph=True)
    with pytest.raises(ConfigError, match="third order"):
        torch.autograd.grad(dd_x.square().sum(), x)


def test_rejects_forward_mode() -> None:
    x = torch.randn(2, 3, 4)
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.func.jvp(lambda t: norm_act(t, num_groups=1), (x,), (x,))


def test_bias_has_no_second_derivative() -> None:
    x, w, b = (torch.randn(s).double().requires_grad_() for s in ((2, 3, 4), (3,), (3,)))
    y = norm_act(x, w, b, num_groups=3)
    grads = torch.autograd.grad(y.square().sum(), (x, w), create_graph=True)
    slope = torch.autograd.grad(norm_act(x, w, b, num_groups=3).sum(), x, create_graph=True)[0]
    assert torch.autograd.grad(slope.square().sum(), b, allow_unused=True) == (None,)
    # By way of y, which the gradient of a square does depend on, it has one.
    assert torch.autograd.grad(grads[0].square().sum(), b)[0].abs().sum() > 0


@pytest.mark.parametrize("known", [False, True], ids=["computed", "known statistics"])
@pytest.mark.parametrize("alone", range(3), ids=["x", "weight", "bias"])
def test_each_argument_gets_its_gradient_where_the_others_are_frozen(alone, known) -> None:
    values = [torch.randn(s).double() for s in ((2, 4, 3, 3, 3), (4,), (4,))]
    statistics = group_statistics(values[0], num_groups=2) if known else None

    def gradient(wanted: set[int]) -> Tensor:
        leaves = [v.clone().requires_grad_(i in wanted) for i, v in enumerate(values)]
        y = norm_act(*leaves, num_groups=2, statistics=statistics)
        return torch.autograd.grad(
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum(), leaves[alone]
        )[0]

    torch.testing.assert_close(gradient({alone}), gradient({0, 1, 2}), rtol=0, atol=0)


def test_master_weights_beside_half(close, orders, chosen) -> None:
    case = CASES[1]
    x, w, b = inputs(case, torch.float32, torch.device("cpu"))
    ours, stock = both(case)
    found = orders(ours, [x.bfloat16(), w, b])
    assert found[1][1].dtype == torch.float32
    close(list(chain(*found)), list(chain(*orders(stock, double([x, w, b])))), torch.bfloat16)


def test_large_mean_does_not_cancel(chosen) -> None:
    x = torch.randn(2, 3, 1000) + 3000
    expected = reference(x.double(), num_groups=3)
    # x itself carries 3000 * 2^-24 of rounding, which the reference sees as well.
    assert (norm_act(x, num_groups=3) - expected).abs().max() < 2e-3


def test_error_budget() -> None:
    draw = torch.Generator().manual_seed(7)
    ratios = []
    for _ in range(40):
        b, g, k, s = (int(torch.randint(1, n, (), generator=draw)) for n in (4, 6, 5, 400))
        case = Case((b, g * k, s + 1), g)
        values = inputs(case, torch.float32, torch.device("cpu"))
        cotangent, mixed = torch.randn(case.x), torch.randn(case.x)

        def second(function: Any, dtype: torch.dtype) -> Tensor:
            x, w, bias = (v.to(dtype).requires_grad_() for v in values)  # noqa: B023
            y = function(x, w, bias)
            (d_x,) = torch.autograd.grad(y, x, cotangent.to(dtype), create_graph=True)  # noqa: B023
            (dd_x,) = torch.autograd.grad((d_x * mixed.to(dtype)).sum(), x)  # noqa: B023
            return dd_x.double()

        ours, stock = both(case)
        exact = second(stock, torch.float64)
        errors = [(second(f, torch.float32) - exact).abs().max() for f in (ours, stock)]
        ratios.append(float(errors[0] / errors[1]))
    assert math.exp(sum(map(math.log, ratios)) / len(ratios)) <= 1.0
    assert max(ratios) <= 2.5


def test_deterministic(device, orders, chosen) -> None:
    case = CASES[6]
    values = inputs(case, torch.float32, device)
    once = orders(both(case)[0], values)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = orders(both(case)[0], values)
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for a, b in zip(list(chain(*once)), list(chain(*again)), strict=True)
    )


def test_outputs_that_exceed_the_cache() -> None:
    """They are written around it: the same bits as of one sample at a time, which fits."""
    shape = (4, 32, 33, 64, 32)  # 35 MB
    x, g, v = (torch.randn(shape).to(memory_format=torch.channels_last_3d) for _ in range(3))
    w, b = torch.randn(2, 32)

    def products(x: Tensor, g: Tensor, v: Tensor) -> list[Tensor]:
        y, mean, rstd = norm_act_fwd(x, w, b, 32, 1e-5, 0.2)
        last = (g, x, mean, rstd, w, b, 32, 0.2)
        return [y, norm_act_bwd(*last)[0], *norm_act_bwd_bwd(v, None, None, *last)[:2]]

    whole = products(x, g, v)
    for i in range(len(x)):
        part = products(x[i : i + 1], g[i : i + 1], v[i : i + 1])
        assert all(torch.equal(a[i : i + 1], p) for a, p in zip(whole, part, strict=True))


@pytest.mark.parametrize(
    ("form", "backend"), [("autograd.grad", "aot_eager"), ("torch.func.grad", "inductor")]
)
def test_compile(form, backend, compiled, loss_with_penalty) -> None:
    ours, stock = both(Case((), 2))
    x, w, b = (torch.randn(s).double().requires_grad_() for s in ((2, 4, 2, 3, 3), (4,), (4,)))
    expected = loss_with_penalty(form, stock, x, w, b)
    found = compiled(lambda *t: loss_with_penalty(form, ours, *t), backend)(x, w, b)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (x, w, b))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, w, b)))
