from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.ops import registration
from fastgan.ops.registration import NAMESPACE, operator, wanted

asked: list[tuple[bool, bool]] = []


def _matmul_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    a, b, _ = ctx.saved_tensors
    wants = tuple(wanted(ctx, i) for i in range(3))
    asked.append(wants)
    d_a = matmul(g, b.mT.contiguous(), None) if wants[0] else None
    d_b = matmul(a.mT.contiguous(), g, None) if wants[1] else None
    return d_a, d_b, g.sum(0) if wants[2] else None


matmul = operator(
    "test_matmul(Tensor a, Tensor b, Tensor? c) -> Tensor",
    kernel=lambda a, b, c: torch.matmul(a, b) if c is None else torch.addmm(c, a, b),
    fake=lambda a, b, c: a.new_empty(a.shape[0], b.shape[1]),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    backward=_matmul_backward,
    autocast=True,
)


def _leaky_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.slope = inputs[2]


leaky = operator(
    "test_leaky(Tensor g, Tensor x, float slope) -> Tensor",
    kernel=lambda g, x, slope: torch.where(x > 0, g, slope * g),
    fake=lambda g, x, slope: torch.empty_like(g),
    setup_context=_leaky_setup,
    backward=lambda ctx, v: (leaky(v, *ctx.saved_tensors, ctx.slope), None, None),
)


def ours(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = matmul(x, a, c)
    return matmul(leaky(h, h, 0.2), b, None)


def stock(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.nn.functional.leaky_relu(x @ a + c, 0.2) @ b


def leaves() -> list[Tensor]:
    shapes = ((5, 7), (7, 9), (9, 2), (9,))
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


FORMS = list(
    itertools.product(("autograd.grad", "torch.func.grad"), ("eager", "aot_eager", "inductor"))
)


@pytest.mark.parametrize(("form", "backend"), FORMS)
def test_loss_and_penalty(form, backend, compiled, loss_with_penalty) -> None:
    values = leaves()
    expected = loss_with_penalty(form, stock, *values)
    found = compiled(lambda *t: loss_with_penalty(form, ours, *t), backend)(*values)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, values)
    torch.testing.assert_close(grads, torch.autograd.grad(expected, values))


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(ours, leaves())


def test_gradgradcheck() -> None:
    assert torch.autograd.gradgradcheck(ours, leaves())


def test_opcheck() -> None:
    x, a, _, c = leaves()
    torch.library.opcheck(matmul, (x, a, c))
    torch.library.opcheck(matmul, (x, a, None))
    torch.library.opcheck(leaky, (x, x.detach(), 0.2))


def test_nested_torch_func() -> None:
    x, a, b, c = leaves()

    def norm_of_slope(function: Any, x: Tensor) -> Tensor:
        return torch.func.grad(lambda t: function(t, a, b, c).sin().sum())(x).square().sum()

    found = torch.func.grad(lambda t: norm_of_slope(ours, t))(x)
    torch.testing.assert_close(found, torch.func.grad(lambda t: norm_of_slope(stock, t))(x))


def test_unwanted_gradients_are_not_asked_for() -> None:
    x, a, _, c = leaves()
    asked.clear()
    torch.autograd.grad(matmul(x, a, c).sum(), x)
    torch.autograd.grad(matmul(x, a, c).sum(), a)
    torch.autograd.grad(matmul(x, a, c).sum(), c)
    assert asked == [(True, False, False), (False, True, False), (False, False, True)]
    asked.clear()
    matmul(x, a.detach(), None).sum().backward()
    assert asked == [(True, False, False)]


def test_leaf_that_stopped_requiring_gradients() -> None:
    x, a, _, c = leaves()
    y = matmul(x, a, c).sum()
    x.requires_grad_(False)
    asked.clear()
    y.backward()
    assert asked == [(False, True, True)] and x.grad is None and a.grad is not None


def test_leaf_that_stopped_requiring_gradients_behind_views() -> None:
    x, a, _, c = leaves()
    y = matmul(x.view(1, 5, 7)[0], a, c).sum()
    x.requires_grad_(False)
    asked.clear()
    y.backward()
    assert asked == [(False, True, True)] and x.grad is None and a.grad is not None


def test_undefined_gradients_stay_undefined() -> None:
    x, a, _, _ = leaves()
    y = matmul(leaky(x, x.detach(), 0.2), a, None)
    (d_x,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    # d_x is linear in nothing but a: x has no second derivative, not one of zeros.
    assert torch.autograd.grad(d_x.sum(), x, allow_unused=True) == (None,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype) -> None:
    x, a, _, c = (t.detach().float().requires_grad_() for t in leaves())
    with torch.autocast("cpu", dtype):
        y = matmul(x, a, c)
        assert y.dtype == dtype
        # The backward has the dtypes of its forward, inside autocast or not.
        (inside,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        (wide,) = torch.autograd.grad(leaky(x, x.detach(), 0.5).sum(), x)
    (outside,) = torch.autograd.grad(y.sum(), x)
    assert inside.dtype == wide.dtype == torch.float32 and torch.equal(inside, outside)


def test_no_grad_records_nothing() -> None:
    x, a, _, c = leaves()
    with torch.no_grad():
        assert not matmul(x, a, c).requires_grad
    with torch.inference_mode():
        assert matmul(x, a, c).is_inference()


def test_changed_input_is_noticed() -> None:
    x, a, _, _ = leaves()
    copy = x.clone()
    y = matmul(copy, a, None)
    with torch.no_grad():
        copy.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_rejects_forward_mode() -> None:
    x, a, _, c = leaves()
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.func.jvp(lambda t: matmul(t, a, c), (x,), (x,))


def test_rejects_torch_without_a_private_name() -> None:
    with pytest.raises(
        ImportError, match=re.escape(f"_gone of torch, which torch {torch.__version__}")
    ):
        registration._private("torch._C:_gone")
    with pytest.raises(ImportError, match=r"torch\._no_such_module:x"):
        registration._private("torch._no_such_module:x")


def test_namespace_carries_the_version() -> None:
    import fastgan

    assert fastgan.__version__.replace(".", "_") in NAMESPACE and NAMESPACE.isidentifier()
