"""Convolutions of one channel by the extension's own kernels, at every instruction set level."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d, conv_transpose3d, implementation
from fastgan.ops import conv3d_passes as passes
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cpu import conv3d as native_conv3d

LAST = torch.channels_last_3d


class Case(NamedTuple):
    x: tuple[int, int, int, int]  # B, D, H, W
    channels: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]

    def __str__(self) -> str:
        return "-".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in self)


CASES = [
    Case((1, 3, 3, 3), 16, (3, 3, 3), (1, 1, 1), (0, 0, 0)),
    Case((2, 8, 10, 26), 16, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
    Case((2, 5, 6, 7), 32, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    Case((1, 7, 9, 17), 48, (3, 4, 3), (2, 1, 2), (2, 0, 1)),
    Case((3, 6, 5, 11), 16, (4, 3, 4), (1, 2, 1), (0, 2, 3)),
    Case((1, 4, 4, 4), 16, (4, 4, 3), (2, 2, 1), (0, 1, 0)),  # last voxels without an output
]
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 8e-3}


def tensors(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, *size = case.x
    x = torch.randn(batch, 1, *size)
    weight, bias = torch.randn(case.channels, 1, *case.kernel), torch.randn(case.channels)
    out = passes.output_size(size, case.kernel, case.stride, case.padding, (1, 1, 1))
    g = torch.randn(batch, case.channels, *out).to(memory_format=LAST)
    return x.to(dtype), weight.to(dtype), bias.to(dtype), g.to(dtype)


def three_passes(case: Case, values: tuple[Tensor, ...]) -> list[Tensor]:
    x, weight, bias, g = values
    geometry = (case.stride, case.padding, (1, 1, 1), 1)
    return [
        passes.fprop(x, weight, bias, *geometry),
        passes.dgrad(g, weight, x.shape[2:], *geometry),
        passes.wgrad(g, x, case.kernel, *geometry),
    ]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    assert all(f.shape == e.shape and f.isfinite().all() for f, e in zip(found, exact, strict=True))
    pairs = zip(found, exact, strict=True)
    return [((f.double() - e).abs().max() / e.abs().max()).item() for f, e in pairs]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_passes_match_float64(case: Case, dtype: torch.dtype, level: str) -> None:
    values = tensors(case, dtype)
    with implementation("native"):
        found = three_passes(case, values)
    exact = three_passes(case, tuple(t.double() for t in values))
    assert max(errors(found, exact)) <= TOLERANCE[dtype]
    assert all(t.dtype == dtype for t in found)
    assert found[0].is_contiguous(memory_format=LAST)


def test_same_bits_for_any_number_of_threads() -> None:
    values = tensors(Case((2, 20, 18, 22), 16, (4, 4, 4), (2, 2, 2), (1, 1, 1)), torch.float32)
    case, before = CASES[1], torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(three_passes(case, values))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradgradcheck() -> None:
    # The operators' derivatives with this kernel in them: float32, so by directional differences.
    x, w, _, _ = tensors(CASES[1], torch.float32)
    assert dispatch.choose("conv3d", x) == "native"

    def slope(dtype: torch.dtype) -> list[Tensor]:
        a, b = (t.to(dtype).requires_grad_() for t in (x, w))
        y = conv3d(a, b, stride=2, padding=1)
        (g,) = torch.autograd.grad(y.sin().sum(), a, create_graph=True)
        penalty = (g.flatten(1).norm(dim=1) - 1).square().mean() + y.square().mean()
        return [d.detach() for d in torch.autograd.grad(penalty, (a, b))]

    assert max(errors(slope(torch.float32), slope(torch.float64))) <= 1e-5


def test_last_layer_of_a_generator() -> None:
    x, w = torch.randn(2, 16, 3, 4, 5).to(memory_format=LAST), torch.randn(16, 1, 4, 4, 4)
    with implementation("native"):
        y = conv_transpose3d(x, w, torch.ones(1), stride=2, padding=1)
    exact = conv_transpose3d(x.double(), w.double(), torch.ones(1).double(), stride=2, padding=1)
    assert max(errors([y], [exact])) <= TOLERANCE[torch.float32]


def test_error_budget() -> None:
    random, logs = np.random.default_rng(11), []
    for _ in range(24):
        kernel = tuple(int(k) for k in random.integers(3, 5, 3))
        stride = tuple(int(s) for s in random.integers(1, 3, 3))
        size = tuple(int(n) for n in random.integers(5, 15, 3))
        case = Case((2, *size), 16 * int(random.integers(1, 3)), kernel, stride, (1, 1, 1))
        values = tensors(case, torch.float32)
        exact = three_passes(case, tuple(t.double() for t in values))
        ours = errors(three_passes(case, values), exact)
        with implementation("reference"):
            stock = errors(three_passes(case, values), exact)
        for mine, theirs in zip(ours, stock, strict=True):
            ratio = max(mine, 1e-9) / max(theirs, 1e-9)
            assert ratio <= 2.5, (case, ratio)
            logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= 1.0


SERVED = ((16, 1, 4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 1, 1), 1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, (24, 1, 4, 4, 4)),
        (0, (16, 2, 4, 4, 4)),
        (0, (16, 1, 5, 4, 4)),
        (0, (16, 1, 4, 4, 1)),
        (1, (2, 3, 2)),
        (2, (1, 1, 4)),
        (3, (1, 1, 2)),
        (4, 2),
    ],
)
def test_the_rest_is_left_to_pytorch(place, value) -> None:
    assert native_conv3d.serves_single(*SERVED)
    assert not native_conv3d.serves_single(*SERVED[:place], value, *SERVED[place + 1 :])


def test_rejects_what_does_not_fit() -> None:
    x, w, b, y = tensors(CASES[1], torch.float32)
    with pytest.raises(ValueError, match=r"conv_single_fprop: x .* must fit together"):
        native_conv3d.single_fprop(x, w, b, y, (1, 1, 1), (1, 1, 1))
    with pytest.raises(TypeError, match="x must be float32 or bfloat16"):
        native_conv3d.single_fprop(x.double(), w, b, y, (2, 2, 2), (1, 1, 1))
    with pytest.raises(ValueError, match="bias must be"):
        native_conv3d.single_fprop(x, w, b[:8], y, (2, 2, 2), (1, 1, 1))
