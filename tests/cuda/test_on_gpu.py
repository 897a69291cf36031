"""The CUDA kernels on a GPU, where there is one: the same answers as PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastgan.ops import bias_act, conv3d, implementation, norm_act
from fastgan.ops.slope_penalty import slope_penalty_fwd
from fastgan.reference import bias_act as bias_reference
from fastgan.reference import norm_act as norm_reference
from fastgan.reference import slope_penalty as penalty_reference

NO_CUDA = "no CUDA device that this torch can use"
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float64: 1e-11}
FORMS = [torch.contiguous_format, torch.channels_last_3d]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA),
]


def orders(function, *inputs: Tensor) -> list[Tensor]:
    """Value, first and second derivative by fixed random cotangents."""
    draws = torch.Generator().manual_seed(1)

    def cotangent(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=draws).bfloat16().to(t.device, t.dtype)

    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    first = torch.autograd.grad(y, leaves, cotangent(y), create_graph=True)
    tested = sum((d * cotangent(d)).sum() for d in first)
    second = torch.autograd.grad(tested, leaves, allow_unused=True)
    zeros = [torch.zeros_like(t) if d is None else d for d, t in zip(second, leaves, strict=True)]
    return [y.detach(), *(d.detach() for d in first), *zeros]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("op", ["norm_act", "bias_act", "slope_penalty"])
def test_matches_reference_and_repeats(op: str, dtype: torch.dtype, form) -> None:
    x = torch.randn(3, 24, 20, 21, 17).bfloat16().contiguous(memory_format=form)
    weight, bias = (torch.randn(24).bfloat16() for _ in range(2))
    if op == "norm_act":
        inputs = [x, weight, bias]
        ours, stock = norm_act, norm_reference.norm_act
        settings = {"num_groups": 8}
    elif op == "bias_act":
        inputs, settings = [x, bias], {}
        ours, stock = bias_act, bias_reference.bias_act
    else:
        inputs, settings = [x], {}

        def ours(t: Tensor) -> Tensor:
            return slope_penalty_fwd(t, 150.0, False)[0]

        def stock(t: Tensor) -> Tensor:
            return penalty_reference.slope_penalty(t, target=150.0)[0]

    with implementation("native"):
        on_gpu = [t.to("cuda", dtype) for t in inputs]
        once, again = (orders(lambda *t: ours(*t, **settings), *on_gpu) for _ in range(2))
    expected = orders(lambda *t: stock(*t, **settings), *(t.double() for t in inputs))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for found, wanted in zip(once, expected, strict=True):
        error = (found.double().cpu() - wanted).abs().max()
        assert error <= TOLERANCE[dtype] * wanted.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_convolution_of_one_channel_matches_reference_and_repeats(dtype: torch.dtype) -> None:
    inputs = [torch.randn(s).bfloat16() for s in ((3, 1, 20, 21, 137), (32, 1, 4, 3, 4), (32,))]
    stride, padding = (2, 1, 2), (1, 1, 2)
    with implementation("native"):
        on_gpu = [t.to("cuda", dtype) for t in inputs]
        once, again = (
            orders(lambda *t: conv3d(*t, stride=stride, padding=padding), *on_gpu) for _ in range(2)
        )
    expected = orders(
        lambda *t: torch.nn.functional.conv3d(*t, stride, padding), *(t.double() for t in inputs)
    )
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for found, wanted in zip(once, expected, strict=True):
        error = (found.double().cpu() - wanted).abs().max()
        assert error <= TOLERANCE[dtype] * wanted.abs().max().clamp(min=1e-3)
