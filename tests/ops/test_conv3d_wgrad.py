"""Weight gradients of several channels by the own kernel, at every instruction set level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d, implementation, native, native_conv3d
from fastgan.ops import conv3d_passes as passes

LEVELS = native._C.isa_levels() if native.reason() is None else []
LAST = torch.channels_last_3d
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3}


class Case(NamedTuple):
    x: tuple[int, int, int, int, int]  # B, C, D, H, W
    channels: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    dilation: tuple[int, int, int] = (1, 1, 1)

    def __str__(self) -> str:
        return "-".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in self)


CASES = [
    Case((1, 16, 1, 1, 1), 1, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    Case((2, 16, 8, 10, 12), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
    Case((2, 32, 5, 6, 7), 7, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    Case((1, 16, 7, 9, 17), 67, (3, 5, 2), (2, 1, 3), (4, 0, 1)),  # padding beyond the kernel
    Case((3, 48, 6, 5, 11), 13, (2, 1, 3), (1, 2, 1), (0, 2, 3), (3, 1, 2)),
    Case((1, 16, 3, 4, 75), 33, (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # wider than a block
    Case((4, 16, 2, 9, 40), 5, (1, 3, 4), (1, 1, 1), (0, 1, 0)),
    Case((2, 8, 5, 6, 11), 20, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # two voxels to a vector
    Case((1, 4, 3, 7, 9), 6, (2, 3, 4), (1, 1, 3), (1, 1, 2), (2, 1, 1)),
    Case((1, 16, 2, 2, 2), 3, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # kernel larger than the volume
]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native._C.isa()
    native._C.set_isa(request.param)
    yield request.param
    native._C.set_isa(before)


@pytest.fixture
def no_avx512() -> Iterator[None]:
    """Where the choice falls on the kernel."""
    before = native._C.isa()
    native._C.set_isa("avx2" if "avx2" in LEVELS else "baseline")
    yield
    native._C.set_isa(before)


def tensors(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x = torch.randn(case.x)
    out = passes.output_size(case.x[2:], *case[2:])
    g = torch.randn(case.x[0], case.channels, *out)
    return g.to(dtype, memory_format=LAST), x.to(dtype, memory_format=LAST)


def packed(case: Case, g: Tensor, x: Tensor) -> Tensor:
    shape = (case.channels, case.x[1], *case.kernel)
    d_weight = torch.empty(shape, dtype=x.dtype, memory_format=LAST)
    return native_conv3d.packed_wgrad(g, x, d_weight, *case[3:])


def by_pytorch(case: Case, g: Tensor, x: Tensor) -> Tensor:
    with implementation("reference"):
        return passes.wgrad(g, x, list(case.kernel), *map(list, case[3:]), 1)


def error(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    assert found.isfinite().all()
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_float64(case: Case, dtype: torch.dtype, level: str) -> None:
    g, x = tensors(case, dtype)
    found = packed(case, g, x)
    assert error(found, by_pytorch(case, g.double(), x.double())) <= TOLERANCE[dtype]


@pytest.mark.usefixtures("no_avx512")
def test_same_bits_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        for case in CASES[1], CASES[5]:
            values, results = tensors(case, torch.float32), []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(packed(case, *values))
            assert all(torch.equal(results[0], other) for other in results[1:])
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("no_avx512")
def test_second_derivative_runs_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    kernel = native_conv3d.packed_wgrad

    def counted(g: Tensor, x: Tensor, d_weight: Tensor, *geometry: list[int]) -> Tensor:
        calls.append(tuple(d_weight.shape))
        return kernel(g, x, d_weight, *geometry)

    monkeypatch.setattr(native_conv3d, "packed_wgrad", counted)
    x, w = torch.randn(2, 16, 6, 6, 6).to(memory_format=LAST), torch.randn(32, 16, 4, 4, 4) / 30

    def slope(dtype: torch.dtype) -> list[Tensor]:
        a, b = (t.to(dtype).requires_grad_() for t in (x, w))
        y = conv3d(a, b, stride=2, padding=1)
        (g,) = torch.autograd.grad(y.sin().sum(), a, create_graph=True)
        penalty = (g.square().sum((1, 2, 3, 4)).sqrt() - 1).square().mean() + y.square().mean()
        return [d.detach() for d in torch.autograd.grad(penalty, (a, b))]

    found = slope(torch.float32)
    assert calls == [(32, 16, 4, 4, 4)] * 2
    for f, e in zip(found, slope(torch.float64), strict=True):
        assert error(f, e) <= 1e-5


@pytest.mark.usefixtures("no_avx512")
def test_error_budget() -> None:
    random, logs = np.random.default_rng(12), []
    for _ in range(24):
        draw = [tuple(int(n) for n in random.integers(low, high, 3)) for low, high in BOUNDS]
        channels = (16 * int(random.integers(1, 4)), int(random.integers(1, 70)))
        case = Case((2, channels[0], *draw[0]), channels[1], *draw[1:])
        g, x = tensors(case, torch.float32)
        exact = by_pytorch(case, g.double(), x.double())
        ratio = max(error(packed(case, g, x), exact), 1e-9)
        ratio /= max(error(by_pytorch(case, g, x), exact), 1e-9)
        assert ratio <= 2.5, (case, ratio)
        logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= 1.0


BOUNDS = ((5, 15), (1, 5), (1, 3), (0, 3))  # of size, kernel, stride, padding


@pytest.mark.usefixtures("no_avx512")
@pytest.mark.parametrize(
    "unserved",
    [
        (24, (4, 4, 4), (1, 1, 1), 1),
        (0, (4, 4, 4), (1, 1, 1), 1),
        (1, (4, 4, 16), (1, 1, 1), 1),
        (8, (4, 4, 3), (1, 1, 1), 1),
        (8, (4, 4, 4), (1, 1, 2), 1),
        (16, (4, 4, 4), (1, 1, 1), 2),
    ],
)
def test_the_rest_is_left_to_pytorch(unserved) -> None:
    assert native_conv3d.serves_packed_wgrad(32, (3, 3, 3), (1, 1, 2), 1)
    assert native_conv3d.serves_packed_wgrad(8, (4, 4, 4), (2, 2, 1), 1)
    assert not native_conv3d.serves_packed_wgrad(*unserved)


def test_rejects_what_does_not_fit() -> None:
    case = CASES[1]
    g, x = tensors(case, torch.float32)
    with pytest.raises(ValueError, match=r"conv_wgrad: g .* must fit together"):
        packed(case._replace(stride=(1, 1, 1)), g, x)
    with pytest.raises(ValueError, match="x must be contiguous on the CPU, channels last"):
        packed(case, g, x.contiguous())
    with pytest.raises(TypeError, match="must be float32 or bfloat16"):
        packed(case, g.double(), x)
