from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops import bias_act, implementation
from fastgan.ops.bias_act import bias_act_fwd, bias_act_masked_fwd, leaky
from fastgan.ops.implementations import extension
from fastgan.reference import bias_act as masked
from fastgan.reference.bias_act import bias_act as reference


class Case(NamedTuple):
    x: tuple[int, ...]
    bias: bool = True
    slope: float = 0.2

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.x))}-{'bias' if self.bias else 'plain'}-{self.slope}"


CASES = [
    Case((1, 1, 1, 1, 1)),
    Case((2, 17, 3, 5, 7)),
    Case((3, 4), bias=False),
    Case((2, 5, 33), slope=0.0),
    Case((2, 3, 2, 2, 2), slope=1.0),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def inputs(case: Case, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    shapes = [case.x, case.x[1:2] if case.bias else None]
    # Multiples of 2^-4, so that no sum rounds across zero in any dtype.
    return [
        None if s is None else (torch.randint(-31, 31, s) + 0.5).to(device, dtype) / 16
        for s in shapes
    ]


def both(case: Case) -> tuple[Any, Any]:
    return (
        lambda x, b: bias_act(x, b, negative_slope=case.slope),
        lambda x, b: reference(x, b, negative_slope=case.slope),
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


def test_a_master_bias_beside_half_gets_a_gradient_of_its_own_dtype(close, orders) -> None:
    x, bias = (v.float() for v in inputs(CASES[3], torch.bfloat16, torch.device("cpu")))
    ours, stock = both(CASES[3])
    found = orders(ours, [x.bfloat16(), bias])
    assert found[1][1].dtype == torch.float32
    close(found[1], orders(stock, double([x, bias]))[1], torch.bfloat16)


def leaves(case: Case) -> list[Tensor]:
    # Away from the kink, where there is a derivative.
    x = torch.randn(case.x).double()
    x = x.sign() * (x.abs() + 0.1)
    values = [x, torch.full(case.x[1:2], 0.03).double()] if case.bias else [x]
    return [v.requires_grad_() for v in values]


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(both(CASES[3])[0], leaves(CASES[3]))


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(both(CASES[3])[0], leaves(CASES[3]))


def test_second_derivative_in_x_is_undefined() -> None:
    x = torch.randn(2, 3, 4).double().requires_grad_()
    (d_x,) = torch.autograd.grad(bias_act(x).sum(), x, create_graph=True)
    assert not d_x.requires_grad


def test_opcheck(device) -> None:
    x = torch.randn(2, 3, 4, 4, 4, device=device)
    b = torch.randn(3, device=device, requires_grad=True)
    for form in (torch.contiguous_format, torch.channels_last_3d):
        x = x.detach().to(memory_format=form).requires_grad_()
        torch.library.opcheck(bias_act_fwd, (x, b, 0.2))
        torch.library.opcheck(bias_act_fwd, (x, None, 0.2))
        _, bits = bias_act_fwd(x.detach(), None, 0.2)
        last = form == torch.channels_last_3d
        torch.library.opcheck(leaky, (torch.randn_like(x).requires_grad_(), bits, last, 0.2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype, device, orders, close) -> None:
    x, b = inputs(Case((2, 4, 3, 4, 10)), dtype, device)
    last = torch.channels_last_3d
    ours, stock = both(CASES[0])
    for values, form in (
        (x, torch.contiguous_format),
        (x.to(memory_format=last), last),
        (x[..., ::2], torch.contiguous_format),
        (x.to(memory_format=last)[..., ::2], last),
        (x[:1].expand(3, -1, -1, -1, -1), torch.contiguous_format),
    ):
        assert ours(values, b).is_contiguous(memory_format=form)
        found, expected = orders(ours, [values, b]), orders(stock, double([values, b]))
        assert found[1][0].is_contiguous(memory_format=form)
        close(list(chain(*found)), list(chain(*expected)), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_implementations_agree_to_the_bit(case, dtype) -> None:
    x, b = inputs(case, dtype, torch.device("cpu"))
    x = x.to(memory_format=torch.channels_last_3d) if x.dim() == 5 else x
    found = []
    for name in ("native", "reference"):
        with implementation(name):
            y, bits = bias_act_fwd(x, b, case.slope)
            found.append((y, bits, leaky(y, bits, x.dim() == 5, case.slope)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    y, bits, _ = found[0]
    flat = y.movedim(1, -1).flatten() if x.dim() == 5 else y.flatten()
    unpacked = np.unpackbits(bits.numpy(), bitorder="little")
    assert np.array_equal(unpacked[: y.numel()].astype(bool), (flat > 0).numpy())


@pytest.mark.parametrize("level", extension._C.isa_levels())
def test_levels_agree(level) -> None:
    x = torch.randn(2, 12, 9, 10, 31).to(memory_format=torch.channels_last_3d)
    expected = bias_act_fwd(x, x[0, :, 0, 0, 0], 0.2)
    before = extension._C.isa()
    extension._C.set_isa(level)
    found = bias_act_fwd(x, x[0, :, 0, 0, 0], 0.2)
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(leaky(x, found[1], True, 0.2), leaky(x, expected[1], True, 0.2))
    extension._C.set_isa(before)


def test_penalty_keeps_the_slope_and_bits_alone() -> None:
    x = torch.randn(2, 8, 8, 8, 8).to(memory_format=torch.channels_last_3d).requires_grad_()
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        bias_act(x, torch.randn(8))
    assert sum(kept.values()) == x.numel() // 8


def test_empty(device) -> None:
    x = torch.zeros(0, 3, 2, 2, 2, device=device, requires_grad=True)
    b = torch.ones(3, device=device, requires_grad=True)
    d_x, d_b = torch.autograd.grad(bias_act(x, b).sum(), (x, b))
    assert d_x.shape == x.shape and torch.equal(d_b, torch.zeros_like(b))


X = torch.randn(2, 3, 4)
REJECTED = [
    ((X[0, 0],), {}, r"bias_act: x must be \[B, C, ...\], got \[4\]"),
    ((X.int(),), {}, r"x must be float16"),
    ((X, torch.ones(2)), {}, r"bias must be \[C\], got \[2\]"),
    ((X, torch.ones(2, 3)), {}, r"bias must be \[C\], got \[2, 3\]"),
    ((X, torch.ones(3).double()), {}, r"bias must be torch.float32 like x"),
    ((X,), {"negative_slope": -0.1}, r"negative_slope must be >= 0, got -0.1"),
]


@pytest.mark.parametrize(("args", "settings", "message"), REJECTED)
def test_rejects_bad_arguments(args, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        bias_act(*args, **settings)


@pytest.mark.parametrize("last", [False, True], ids=["NCDHW", "NDHWC"])
def test_every_thread_works_on_its_own_share(last) -> None:
    x, b = torch.randn(2, 6, 20, 25, 37), torch.randn(6)
    x = x.to(memory_format=torch.channels_last_3d) if last else x
    g = torch.randn_like(x)
    found = []
    for name in ("native", "reference"):
        with implementation(name):
            leaf = x.clone().requires_grad_()
            y = bias_act(leaf, b)
            found.append((y, *torch.autograd.grad(y, leaf, g)))
    assert all(torch.equal(f, e) for f, e in zip(*found, strict=True))


def test_deterministic(device, orders) -> None:
    values = inputs(CASES[1], torch.float32, device)
    once, again = orders(both(CASES[1])[0], values), orders(both(CASES[1])[0], values)
    assert all(
        torch.equal(a, b) for a, b in zip(list(chain(*once)), list(chain(*again)), strict=True)
    )


@pytest.mark.parametrize(
    ("form", "backend"), [("autograd.grad", "aot_eager"), ("torch.func.grad", "aot_eager")]
)
def test_compile(form, backend, compiled, loss_with_penalty) -> None:
    ours, stock = both(CASES[0])
    x, b = leaves(Case((2, 3, 5)))
    expected = loss_with_penalty(form, stock, x, b)
    found = compiled(lambda *t: loss_with_penalty(form, ours, *t), backend)(x, b)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, (x, b))
    torch.testing.assert_close(grads, torch.autograd.grad(expected, (x, b)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_and_bits_agree(case, dtype, device, orders) -> None:
    """Where PyTorch's own kernels run, a byte an element says what a bit says elsewhere."""
    values, (ours, _) = inputs(case, dtype, device), both(case)
    found = []
    for name in ("native", "reference"):
        with implementation(name):
            torch.manual_seed(0)
            found.append(list(chain(*orders(ours, values))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_opcheck_of_masks(device) -> None:
    b = torch.randn(3, device=device, requires_grad=True)
    for form in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.randn(2, 3, 4, 4, 4, device=device).to(memory_format=form).requires_grad_()
        torch.library.opcheck(bias_act_masked_fwd, (x, b, 0.2))
        torch.library.opcheck(bias_act_masked_fwd, (x, None, 0.2))
        _, mask = bias_act_masked_fwd(x.detach(), None, 0.2)
        last = form == torch.channels_last_3d
        torch.library.opcheck(leaky, (torch.randn_like(x).requires_grad_(), mask, last, 0.2))


def test_a_mask_is_of_the_definition() -> None:
    x = torch.tensor([[-1.0, 0.0, -0.0, 2.0, float("nan")]])
    y, mask = masked.bias_act_masked_fwd(x, None, 0.0)
    assert mask.tolist() == [[False, False, False, True, False]]
    assert torch.equal(y[:, :4], torch.relu(x[:, :4]))
    d_x = masked.bias_act_masked_bwd(torch.ones(1, 5), mask, 0.25)
    assert d_x.tolist() == [[0.25, 0.25, 0.25, 1.0, 0.25]]
