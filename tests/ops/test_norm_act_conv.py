from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastgan.errors import ConfigError
from fastgan.ops import group_statistics, norm_act_conv, norm_act_conv_transpose
from fastgan.ops.group_statistics import statistics_of_groups
from fastgan.ops.norm_act_conv_passes import norm_act_conv_fprop, norm_act_conv_wgrad
from fastgan.reference.norm_act_conv import norm_act_conv as reference


class Case(NamedTuple):
    z: tuple[int, ...]
    weight: tuple[int, ...]
    num_groups: int
    next_groups: int
    affine: bool = True
    stride: int = 1

    def __str__(self) -> str:
        sizes = "-".join("x".join(map(str, s)) for s in (self.z, self.weight))
        return f"{sizes}-G{self.num_groups}-{self.next_groups}"


CASES = [
    Case((1, 1, 2, 2, 2), (2, 1, 1, 1, 1), 1, 2),
    Case((2, 3, 4, 5, 6), (4, 3, 3, 3, 3), 3, 4, stride=2),
    Case((2, 4, 5, 4, 4), (6, 4, 2, 2, 2), 2, 2, affine=False),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    c, k = case.weight[1], case.weight[0]
    affine = (c,) if case.affine else None
    shapes = [case.z, affine, affine, case.weight, (k,) if case.affine else None]
    return [None if s is None else torch.randn(s).bfloat16().to(device, dtype) for s in shapes]


def both(case: Case, output: int = 0) -> tuple[Any, Any]:
    plain = {"eps": 1e-5, "negative_slope": 0.2, "stride": case.stride, "padding": 1}

    def ours(z: Tensor, w: Any, b: Any, conv_weight: Tensor, conv_bias: Any) -> Tensor:
        statistics = group_statistics(z, num_groups=case.num_groups)
        rest = (w, b, conv_weight, conv_bias)
        return norm_act_conv(z, statistics, *rest, num_groups=case.num_groups, **plain)[output]

    groups = {"num_groups": case.num_groups, "next_groups": case.next_groups}
    return ours, lambda *args: reference(*args, **groups, **plain)[output]


def double(values: list[Tensor | None]) -> list[Tensor | None]:
    return [None if v is None else v.double().cpu() for v in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(case, dtype, device, close) -> None:
    values = inputs(case, dtype, device)
    for output in (0, 1):
        ours, stock = both(case, output)
        close([ours(*values)], [stock(*double(values))], dtype)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_backward_matches_reference(case, dtype, output, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case, output)
    close(orders(ours, values)[1], orders(stock, double(values))[1], dtype)


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_second_order_matches_reference(case, dtype, output, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, dtype, device), both(case, output)
    found, expected = orders(ours, values)[2], orders(stock, double(values))[2]
    # A shift of next_z leaves its statistics' rstd alone, so terms of this size cancel to zero.
    close(found, expected, dtype, least=1.0 if output else 1e-3)


def leaves(case: Case) -> list[Tensor | None]:
    values = inputs(case, torch.float64, torch.device("cpu"))
    return [None if v is None else v.requires_grad_() for v in values]


@pytest.mark.parametrize("small", [CASES[0], CASES[2]], ids=str)
def test_gradcheck(small: Case) -> None:
    assert torch.autograd.gradcheck(both(small)[0], leaves(small), fast_mode=True)


@pytest.mark.parametrize("small", [CASES[0], CASES[2]], ids=str)
def test_gradgradcheck(small: Case) -> None:
    assert torch.autograd.gradgradcheck(both(small)[0], leaves(small), fast_mode=True)


def test_chain_matches_reference() -> None:
    # The statistics of the first call feed the second; no share may be lost or counted twice.
    z, w1, w2 = torch.randn(2, 3, 4, 4, 4), torch.randn(4, 3, 2, 2, 2), torch.randn(2, 4, 2, 2, 2)
    z, w1, w2 = (t.double().requires_grad_() for t in (z, w1, w2))
    y, s = norm_act_conv(
        z, group_statistics(z, num_groups=3), None, None, w1, num_groups=3, padding=1
    )
    y, _ = norm_act_conv(y, s, None, None, w2, num_groups=4)
    rest = {"eps": 1e-5, "negative_slope": 0.2, "stride": 1}
    e, _ = reference(z, None, None, w1, None, num_groups=3, next_groups=4, padding=1, **rest)
    e, _ = reference(e, None, None, w2, None, num_groups=4, next_groups=2, padding=0, **rest)
    torch.testing.assert_close(y, e)
    found = torch.autograd.grad(y.sin().sum(), (z, w1, w2))
    torch.testing.assert_close(found, torch.autograd.grad(e.sin().sum(), (z, w1, w2)))


def test_layouts(close) -> None:
    case = CASES[1]
    values = inputs(case, torch.float32, torch.device("cpu"))
    ours, stock = both(case)
    last = values[0].to(memory_format=torch.channels_last_3d)
    y = ours(last, *values[1:])
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    close([y], [stock(*double(values))], torch.float32)


def test_empty() -> None:
    z = torch.zeros(0, 2, 3, 3, 3)
    statistics = torch.zeros(0, 2, 2)
    y, s = norm_act_conv(z, statistics, None, None, torch.zeros(4, 2, 1, 1, 1), num_groups=2)
    assert y.shape == (0, 4, 3, 3, 3) and s.shape == (0, 4, 2)


Z, S, W = torch.randn(2, 4, 3, 3, 3), torch.ones(2, 2, 2), torch.zeros(2, 4, 1, 1, 1)
REJECTED = [
    ((Z[0], S, None, None, W), {}, r"norm_act_conv: z must be \[B, C, D, H, W\]"),
    ((Z, S[:1], None, None, W), {}, r"statistics must be \[2, 2, 2\] torch.float32, got \[1"),
    ((Z, S.double(), None, None, W), {}, r"statistics must be .* torch.float64"),
    ((Z, S, torch.ones(3), None, W), {}, r"weight must be \[C\] or \[B, C\]"),
    ((Z, S, None, None, W), {"num_groups": 3}, r"num_groups must divide C = 4, got 3"),
    ((Z, S, None, None, W[:, :2]), {}, r"conv3d: weight must be"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        norm_act_conv(*args, **{"num_groups": 2, **settings})


def test_deterministic(orders) -> None:
    values = inputs(CASES[1], torch.float32, torch.device("cpu"))
    once, again = orders(both(CASES[1])[0], values), orders(both(CASES[1])[0], values)
    assert all(
        torch.equal(a, b) for a, b in zip(list(chain(*once)), list(chain(*again)), strict=True)
    )


def test_compile(compiled, loss_with_penalty) -> None:
    ours, stock = both(CASES[2])
    z, _, _, w, _ = leaves(CASES[2])

    def bare(function: Any) -> Any:
        return lambda z, w: function(z, None, None, w, None)

    expected = loss_with_penalty("torch.func.grad", bare(stock), z, w)
    run = compiled(lambda *t: loss_with_penalty("torch.func.grad", bare(ours), *t), "aot_eager")
    found = run(z, w)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (z, w))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (z, w)))


TRANSPOSED: dict[str, Any] = {"stride": (2, 1, 1), "padding": 1, "output_padding": (1, 0, 0)}


def transposed(z: Tensor, w: Any, b: Any, conv_weight: Tensor, conv_bias: Any) -> Tensor:
    statistics = group_statistics(z, num_groups=2)
    return norm_act_conv_transpose(
        z, statistics, w, b, conv_weight, conv_bias, num_groups=2, next_groups=0, **TRANSPOSED
    )[0]


def stock_transposed(z: Tensor, w: Any, b: Any, conv_weight: Tensor, conv_bias: Any) -> Tensor:
    a = functional.leaky_relu(functional.group_norm(z, 2, w, b), 0.2)
    return functional.conv_transpose3d(a, conv_weight, conv_bias, **TRANSPOSED)


def test_transposed_matches_reference(orders, close) -> None:
    values = [torch.randn(s).double() for s in ((2, 4, 3, 4, 5), (4,), (4,), (4, 3, 3, 3, 3), (3,))]
    found, expected = orders(transposed, values), orders(stock_transposed, values)
    close(list(chain(*found)), list(chain(*expected)), torch.float64)


def test_transposed_gradgradcheck() -> None:
    shapes = ((1, 4, 2, 2, 3), (4,), (4,), (4, 2, 3, 3, 3), (2,))
    values = [torch.randn(s).double().requires_grad_() for s in shapes]
    assert torch.autograd.gradgradcheck(transposed, values, fast_mode=True)


def test_opcheck() -> None:
    z, w, b, kernel, conv_bias = leaves(CASES[2]._replace(affine=True))
    mean, rstd = group_statistics(z.detach(), num_groups=2).movedim(-1, 0).contiguous().unbind()
    g = torch.randn(2, 6, 6, 5, 5).double().requires_grad_()
    ones = [1, 1, 1]
    for size, k in (([], kernel), ([4, 3, 3], torch.randn(4, 6, 2, 2, 2).double())):
        args = (z, mean, rstd, k, w, b, conv_bias, 2, 0.2, size, ones, ones)
        torch.library.opcheck(norm_act_conv_fprop, args)
    args = (g, z, mean, rstd, w, None, 2, 0.2, [2, 2, 2], False, ones, ones)
    torch.library.opcheck(norm_act_conv_wgrad, args)
    torch.library.opcheck(statistics_of_groups, (z, 2, 1e-5))


def test_wgrad_is_differentiable() -> None:
    # The first derivative in conv_weight, differentiated in turn in everything.
    values = leaves(CASES[2]._replace(affine=True))

    def mixed(function: Any) -> tuple[Tensor, ...]:
        y = function(*values)
        (d,) = torch.autograd.grad(y.sin().sum(), values[3], create_graph=True)
        return torch.autograd.grad(d.square().sum(), values)

    ours, stock = both(CASES[2])
    torch.testing.assert_close(mixed(ours), mixed(stock))


def test_autocast_keeps_the_statistics_wide(close) -> None:
    z, w = torch.randn(2, 4, 6, 6, 6), torch.randn(5, 4, 3, 3, 3)
    gamma, beta = torch.randn(2, 4)
    leaves = [t.requires_grad_() for t in (z, gamma, beta, w)]

    def scores(wide: bool) -> Tensor:
        y, s = (
            norm_act_conv(
                z.bfloat16(),
                group_statistics(z.bfloat16(), num_groups=4),
                gamma,
                beta,
                w,
                num_groups=4,
                padding=1,
            )
            if not wide
            else norm_act_conv(
                z, group_statistics(z, num_groups=4), gamma, beta, w, num_groups=4, padding=1
            )
        )
        if not wide or torch.is_autocast_enabled("cpu"):
            assert y.dtype == torch.bfloat16 and s.dtype == torch.float32
        return (y.float() * cotangent).sum()

    cotangent = torch.randn(2, 5, 6, 6, 6)
    expected = torch.autograd.grad(scores(True), leaves)
    for wide in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            found = torch.autograd.grad(scores(wide), leaves)
        assert all(d.dtype == torch.float32 for d in found)
        close(found, [e.detach() for e in expected], torch.bfloat16)
