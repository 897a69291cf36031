"""Input gradients of several channels by the own kernel, at every instruction set level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d_passes as passes
from fastgan.ops import conv_transpose3d, implementation, native, native_conv3d

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
    Case((2, 8, 5, 6, 31), 9, (4, 2, 4), (2, 3, 2), (1, 0, 1)),
    Case((1, 4, 7, 9, 18), 5, (3, 5, 8), (2, 1, 4), (4, 0, 3), (1, 2, 1)),  # padding > kernel
    Case((3, 48, 6, 5, 11), 3, (2, 1, 3), (1, 2, 3), (0, 2, 2), (3, 1, 1)),
    Case((1, 16, 3, 4, 10), 33, (2, 2, 2), (2, 2, 2), (0, 0, 0)),  # one output meets a place
    Case((1, 8, 4, 6, 9), 3, (4, 4, 4), (2, 2, 2), (0, 1, 0)),  # last voxels without an output
    Case((9, 16, 4, 4, 4), 5, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # six samples together, then three
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
    weight = torch.randn(case.channels, case.x[1], *case.kernel)
    out = passes.output_size(case.x[2:], *case[2:])
    g = torch.randn(case.x[0], case.channels, *out)
    return g.to(dtype, memory_format=LAST), weight.to(dtype, memory_format=LAST)


def packed(case: Case, g: Tensor, weight: Tensor) -> Tensor:
    d_x = torch.empty(case.x, dtype=g.dtype, memory_format=LAST)
    return native_conv3d.packed_dgrad(g, weight, d_x, *case[3:])


def by_pytorch(case: Case, g: Tensor, weight: Tensor) -> Tensor:
    with implementation("reference"):
        return passes.dgrad(g, weight, list(case.x[2:]), *map(list, case[3:]), 1)


def error(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    assert found.isfinite().all()
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_float64(case: Case, dtype: torch.dtype, level: str) -> None:
    g, weight = tensors(case, dtype)
    found = packed(case, g, weight)
    assert error(found, by_pytorch(case, g.double(), weight.double())) <= TOLERANCE[dtype]


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
def test_last_layer_of_a_generator_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    kernel = native_conv3d.packed_dgrad

    def counted(g: Tensor, weight: Tensor, d_x: Tensor, *geometry: list[int]) -> Tensor:
        calls.append(tuple(d_x.shape))
        return kernel(g, weight, d_x, *geometry)

    monkeypatch.setattr(native_conv3d, "packed_dgrad", counted)
    x, w = torch.randn(2, 32, 3, 4, 5).to(memory_format=LAST), torch.randn(32, 8, 4, 4, 4)
    y = conv_transpose3d(x, w, torch.ones(8), stride=2, padding=1)
    assert calls == [(2, 8, 6, 8, 10)]
    exact = conv_transpose3d(x.double(), w.double(), torch.ones(8).double(), stride=2, padding=1)
    assert error(y, exact) <= TOLERANCE[torch.float32]


@pytest.mark.usefixtures("no_avx512")
def test_error_budget() -> None:
    random, logs = np.random.default_rng(13), []
    for _ in range(24):
        size, padding = (tuple(int(n) for n in random.integers(*b, 3)) for b in ((6, 15), (0, 2)))
        channels = (8 * int(random.integers(1, 4)), int(random.integers(1, 70)))
        case = Case((2, channels[0], *size), channels[1], (4, 3, 4), (2, 2, 2), padding)
        g, weight = tensors(case, torch.float32)
        exact = by_pytorch(case, g.double(), weight.double())
        ratio = max(error(packed(case, g, weight), exact), 1e-9)
        ratio /= max(error(by_pytorch(case, g, weight), exact), 1e-9)
        assert ratio <= 2.5, (case, ratio)
        logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= 1.0


SERVED = (8, (4, 4, 4), (2, 2, 2), (2, 2, 1), 1)


@pytest.mark.usefixtures("no_avx512")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 12),
        (0, 0),
        (1, (4, 4, 3)),
        (2, (2, 2, 1)),
        (3, (1, 1, 2)),
        (4, 2),
    ],
)
def test_the_rest_is_left_to_pytorch(place, value) -> None:
    assert native_conv3d.serves_packed_dgrad(*SERVED)
    assert not native_conv3d.serves_packed_dgrad(*SERVED[:place], value, *SERVED[place + 1 :])


def test_rejects_what_does_not_fit() -> None:
    case = CASES[1]
    g, weight = tensors(case, torch.float32)
    with pytest.raises(ValueError, match=r"conv_dgrad: g .* must fit together"):
        packed(case._replace(stride=(1, 1, 1)), g, weight)
    with pytest.raises(ValueError, match="weight must be contiguous on the CPU, channels last"):
        packed(case, g, weight.contiguous())
    with pytest.raises(TypeError, match="must be float32 or bfloat16"):
        packed(case, g.double(), weight)
