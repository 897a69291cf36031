"""What the tests of all operators share: tolerances, derivatives, and the penalty's own form."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from tests.ops.pretended_gpu import cache, trial  # noqa: F401  (fixtures)

LEVELS = extension._C.isa_levels() if extension.reason() is None else []

# Largest error over the largest expected magnitude, by dtype; expected is float64 on equal inputs.
TOLERANCES = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 4e-2}

Function = Callable[..., Tensor]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The compiled kernels at every instruction set level of this machine."""
    before = extension._C.isa()
    extension._C.set_isa(request.param)
    yield request.param
    extension._C.set_isa(before)


@pytest.fixture(autouse=True)
def _poisoned(poisoned_memory: None) -> None:
    pass


@pytest.fixture
def close() -> Callable[..., None]:
    """close(found, expected, dtype): sequences of tensors agree as far as the dtype allows."""

    def check(
        found: Sequence[Tensor],
        expected: Sequence[Tensor],
        dtype: torch.dtype,
        least: float = 1e-3,
    ) -> None:
        # least: the magnitude of what cancels to a smaller result.
        assert len(found) == len(expected)
        for i, (f, e) in enumerate(zip(found, expected, strict=True)):
            assert f.shape == e.shape, f"result {i}: {f.shape} instead of {e.shape}"
            assert f.isfinite().all(), f"result {i} holds NaN or infinity"
            if e.numel():
                error = (f.double().cpu() - e.double().cpu()).abs().max()
                bound = TOLERANCES[dtype] * e.double().abs().max().clamp(min=least).cpu()
                assert error <= bound, f"result {i}: error {error:.3g}, allowed {bound:.3g}"

    return check


@pytest.fixture
def orders() -> Callable[..., tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """orders(function, inputs): value, first and second derivative by fixed random cotangents."""

    def compute(
        function: Function, inputs: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        draw = torch.Generator().manual_seed(1)

        def cotangent(t: Tensor) -> Tensor:
            values = torch.randn(t.shape, generator=draw, dtype=torch.float64)
            # Rounded to bfloat16, so that every dtype sees the same numbers.
            return values.bfloat16().to(t.device, t.dtype)

        leaves = [t.detach().requires_grad_() for t in inputs if t is not None]
        rest = iter(leaves)
        y = function(*(None if t is None else next(rest) for t in inputs))
        g = cotangent(y).requires_grad_()
        first = torch.autograd.grad(y, leaves, g, create_graph=True)
        tested = sum((d * cotangent(d)).sum() for d in first)
        assert isinstance(tested, Tensor)
        second = torch.autograd.grad(tested, [g, *leaves], allow_unused=True)
        zeros = [
            torch.zeros_like(t) if d is None else d
            for d, t in zip(second, [g, *leaves], strict=True)
        ]
        return [y.detach()], [d.detach() for d in first], zeros

    return compute


@pytest.fixture
def loss_with_penalty() -> Callable[..., Tensor]:
    """loss_with_penalty(form, function, x, *parameters): a loss and the penalty on its slope."""

    def loss(form: str, function: Function, x: Tensor, *parameters: Tensor) -> Tensor:
        def score(x: Tensor) -> Tensor:
            return function(x, *parameters).sin().sum()

        if form == "autograd.grad":
            slope = torch.autograd.grad(score(x), x, create_graph=True)[0]
        else:
            slope = torch.func.grad(score)(x)
        return score(x) + (slope.flatten(1).norm(dim=1) - 1).square().mean()

    return loss


@pytest.fixture
def compiled() -> Iterator[Callable[..., Any]]:
    """compiled(function, backend): the whole function in one graph; "eager" leaves it as it is."""
    import torch._dynamo
    import torch._functorch.config
    import torch._inductor.config

    with contextlib.ExitStack() as stack:
        # Without it Dynamo breaks the graph at torch.autograd.grad.
        stack.enter_context(torch._dynamo.config.patch(trace_autograd_ops=True))
        # The disk caches of graphs know an operator by its name alone and would serve an older
        # derivative. The cache of compiled C++ is keyed by its source and stays.
        stack.enter_context(torch._functorch.config.patch(enable_autograd_cache=False))
        stack.enter_context(torch._inductor.config.patch(fx_graph_cache=False))

        def build(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
            torch._dynamo.reset()
            if backend == "eager":
                return function
            return torch.compile(function, fullgraph=True, backend=backend)

        yield build
        torch._dynamo.reset()
