from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import fold, implementation, unfold
from fastgan.ops.fold import fold_fwd, unfold_fwd
from fastgan.reference import fold as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    factors: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.x))}-{''.join(map(str, self.factors))}"


# Shapes of the folded side.
CASES = [
    Case((1, 1, 1, 1, 1), (1, 1, 1)),
    Case((2, 8, 3, 5, 7), (2, 2, 2)),
    Case((3, 24, 2, 1, 4), (1, 4, 2)),
    Case((2, 3, 2, 3, 1), (3, 1, 1)),
    Case((1, 2, 1, 1, 5), (2, 1, 1)),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=["fold", "unfold"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def both(case: Case, form: str) -> tuple[Any, Any]:
    op = {"fold": fold, "unfold": unfold}[form]
    stock = {"fold": reference.fold, "unfold": reference.unfold}[form]
    # Squared, so that there is a second derivative to compare.
    return lambda x: op(x, case.factors).square(), lambda x: stock(x, case.factors).square()


def inputs(case: Case, form: str, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    x = (torch.randint(-31, 31, case.x) / 16).to(device, dtype)
    return [x if form == "unfold" else reference.unfold(x, case.factors).contiguous()]


def double(values: list[Tensor]) -> list[Tensor]:
    return [v.double().cpu() for v in values]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_matches_reference(case, form, dtype, device, close) -> None:
    values, (ours, stock) = inputs(case, form, dtype, device), both(case, form)
    close([ours(*values)], [stock(*double(values))], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_matches_reference(case, form, dtype, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, form, dtype, device), both(case, form)
    close(orders(ours, values)[1], orders(stock, double(values))[1], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_order_matches_reference(case, form, dtype, device, orders, close) -> None:
    values, (ours, stock) = inputs(case, form, dtype, device), both(case, form)
    close(orders(ours, values)[2], orders(stock, double(values))[2], dtype)


def test_a_block_becomes_the_channels_of_one_voxel() -> None:
    x = torch.arange(128.0).reshape(1, 2, 4, 4, 4)
    block = fold(x, 2)[0, :, 1, 0, 1]
    assert torch.equal(block, x[0, :, 2:4, 0:2, 2:4].permute(1, 2, 3, 0).flatten())


def test_unfold_undoes_fold(case) -> None:
    x = torch.randn(case.x)
    assert torch.equal(fold(unfold(x, case.factors), case.factors), x)


EVERY_DTYPE = [*DTYPES, torch.float16, torch.int64, torch.int16, torch.int8, torch.uint8]


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_implementations_and_threads_agree(case, dtype) -> None:
    x = torch.randint(0, 100, case.x).to(dtype)
    before = torch.get_num_threads()
    found = []
    for name, threads in (("native", 1), ("native", 3), ("reference", 1)):
        torch.set_num_threads(threads)
        with implementation(name):
            wide = unfold(x, case.factors)
            found.append((wide, fold(wide, case.factors)))
    torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_every_thread_works_on_its_own_share() -> None:
    x = torch.randn(2, 1, 64, 64, 64)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    y = fold(x, 2)
    torch.set_num_threads(before)
    assert torch.equal(y, reference.fold(x, [2, 2, 2])) and torch.equal(unfold(y, 2), x)


def leaf(case: Case, form: str) -> Tensor:
    return inputs(case, form, torch.float64, torch.device("cpu"))[0].requires_grad_()


def test_gradcheck(form) -> None:
    assert torch.autograd.gradcheck(both(CASES[2], form)[0], leaf(CASES[2], form))


def test_gradgradcheck(form) -> None:
    assert torch.autograd.gradgradcheck(both(CASES[2], form)[0], leaf(CASES[2], form))


def test_opcheck(device) -> None:
    x = torch.randn(2, 8, 4, 2, 6, device=device)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        t = x.to(memory_format=layout)
        for op in (fold_fwd, unfold_fwd):
            torch.library.opcheck(op, (t.detach().requires_grad_(), [2, 2, 2]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, form, device, orders, close) -> None:
    case = Case((2, 16, 4, 6, 4), (2, 2, 2))
    (x,) = inputs(case, form, dtype, device)
    ours, stock = both(case, form)
    last = torch.channels_last_3d
    for values in (x, x.to(memory_format=last), x[:, :, ::2], x[:1].expand(3, -1, -1, -1, -1)):
        found, expected = orders(ours, [values]), orders(stock, double([values]))
        assert ours(values).is_contiguous(memory_format=last)
        assert found[1][0].is_contiguous(memory_format=last)
        close(list(chain(*found)), list(chain(*expected)), dtype)


def test_empty(device) -> None:
    x = torch.zeros(0, 1, 4, 4, 2, device=device, requires_grad=True)
    y = fold(x, 2)
    assert y.shape == (0, 8, 2, 2, 1) and unfold(y, 2).shape == x.shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape


X = torch.zeros(1, 4, 4, 6, 2)
REJECTED = [
    (fold, (X[0], 2), r"fold: x must be \[B, C, D, H, W\], got \[4, 4, 6, 2\]"),
    (fold, (X, (2, 2, 4)), r"fold: spatial axis 2 must be a multiple of its factor 4, got 2"),
    (fold, (X, 0), r"fold: factors must be an int or three ints >= 1, got 0"),
    (unfold, (X, (2, 2)), r"unfold: factors must be an int or three ints >= 1"),
    (unfold, (X, 2), r"unfold: channels must be a multiple of f0 f1 f2 = 8, got 4"),
]


@pytest.mark.parametrize(("op", "args", "message"), REJECTED)
def test_rejects_bad_arguments(op, args, message) -> None:
    with pytest.raises(ConfigError, match=message):
        op(*args)


def test_deterministic(form, device, orders) -> None:
    values = inputs(CASES[1], form, torch.float32, device)
    ours = both(CASES[1], form)[0]
    once, again = orders(ours, values), orders(ours, values)
    for a, b in zip(chain(*once), chain(*again), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("gradient", ["autograd.grad", "torch.func.grad"])
def test_compile(form, gradient, compiled, loss_with_penalty) -> None:
    ours, stock = both(CASES[1], form)
    x = leaf(CASES[1], form)
    expected = loss_with_penalty(gradient, stock, x)
    found = compiled(lambda t: loss_with_penalty(gradient, ours, t), "aot_eager")(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))
