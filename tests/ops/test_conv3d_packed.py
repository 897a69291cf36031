"""The three passes of several channels by the own kernels, at every instruction set level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d, conv_transpose3d, implementation
from fastgan.ops import conv3d_passes as passes
from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu import conv3d as native_conv3d

LEVELS = extension._C.isa_levels() if extension.reason() is None else []
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

    def shape(self, name: str) -> tuple[int, ...]:
        out = passes.output_size(self.x[2:], *self[2:])
        return {
            "x": self.x,
            "weight": (self.channels, self.x[1], *self.kernel),
            "bias": (self.channels,),
            "y": (self.x[0], self.channels, *out),
        }[name]


# What a pass takes, and what it gives.
OPERANDS = {"fprop": ("x", "weight", "bias"), "dgrad": ("y", "weight"), "wgrad": ("y", "x")}
RESULT = {"fprop": "y", "dgrad": "x", "wgrad": "weight"}
CASES = {
    "fprop": [
        Case((1, 1, 1, 1, 1), 16, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
        Case((2, 16, 8, 10, 12), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
        Case((2, 7, 5, 6, 7), 48, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
        Case((2, 9, 5, 6, 31), 16, (4, 2, 4), (2, 3, 2), (1, 0, 1)),
        Case((1, 5, 7, 9, 18), 16, (3, 5, 8), (2, 1, 4), (4, 0, 3), (1, 2, 1)),  # padding > kernel
        Case((3, 3, 6, 5, 11), 32, (2, 1, 3), (1, 2, 3), (0, 2, 2), (3, 1, 1)),
        Case((1, 16, 2, 2, 2), 16, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # kernel larger than volume
        Case((9, 32, 8, 8, 8), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # five samples, then four
    ],
    "dgrad": [
        Case((1, 16, 1, 1, 1), 1, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
        Case((2, 16, 8, 10, 12), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
        Case((2, 32, 5, 6, 7), 7, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
        Case((2, 8, 5, 6, 31), 9, (4, 2, 4), (2, 3, 2), (1, 0, 1)),
        Case((1, 4, 7, 9, 18), 5, (3, 5, 8), (2, 1, 4), (4, 0, 3), (1, 2, 1)),  # padding > kernel
        Case((3, 48, 6, 5, 11), 3, (2, 1, 3), (1, 2, 3), (0, 2, 2), (3, 1, 1)),
        Case((1, 16, 3, 4, 10), 33, (2, 2, 2), (2, 2, 2), (0, 0, 0)),  # one output meets a place
        Case((1, 8, 4, 6, 9), 3, (4, 4, 4), (2, 2, 2), (0, 1, 0)),  # last voxels without an output
        Case((9, 16, 4, 4, 4), 5, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # six samples, then three
    ],
    "wgrad": [
        Case((1, 16, 1, 1, 1), 1, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
        Case((2, 16, 8, 10, 12), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1)),
        Case((2, 32, 5, 6, 7), 7, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
        Case((1, 16, 7, 9, 17), 67, (3, 5, 2), (2, 1, 3), (4, 0, 1)),  # padding > kernel
        Case((3, 48, 6, 5, 11), 13, (2, 1, 3), (1, 2, 1), (0, 2, 3), (3, 1, 2)),
        Case((1, 16, 3, 4, 75), 33, (3, 3, 3), (1, 1, 1), (1, 1, 1)),  # wider than a block
        Case((4, 16, 2, 9, 40), 5, (1, 3, 4), (1, 1, 1), (0, 1, 0)),
        Case((2, 8, 5, 6, 11), 20, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # two voxels to a vector
        Case((1, 4, 3, 7, 9), 6, (2, 3, 4), (1, 1, 3), (1, 1, 2), (2, 1, 1)),
        Case((1, 16, 2, 2, 2), 3, (4, 4, 4), (2, 2, 2), (1, 1, 1)),  # kernel larger than volume
    ],
}
each_pass = pytest.mark.parametrize("name", OPERANDS)


@pytest.fixture
def no_avx512() -> Iterator[None]:
    """Where the choice falls on the kernels."""
    before = extension._C.isa()
    extension._C.set_isa("avx2" if "avx2" in LEVELS else "baseline")
    yield
    extension._C.set_isa(before)


def operands(name: str, case: Case, dtype: torch.dtype) -> list[Tensor]:
    values = [torch.randn(case.shape(operand)).to(dtype) for operand in OPERANDS[name]]
    return [t.to(memory_format=LAST) if t.ndim == 5 else t for t in values]


def packed(name: str, case: Case, *values: Tensor) -> Tensor:
    out = torch.empty(case.shape(RESULT[name]), dtype=values[0].dtype, memory_format=LAST)
    kernel: Callable[..., Tensor] = getattr(native_conv3d, f"packed_{name}")
    return kernel(*values, out, *case[3:])


def by_pytorch(name: str, case: Case, *values: Tensor) -> Tensor:
    size: dict[str, list[Any]] = {
        "fprop": [],
        "dgrad": [list(case.x[2:])],
        "wgrad": [list(case.kernel)],
    }
    kernel: Callable[..., Tensor] = getattr(passes, name)
    with implementation("reference"):
        return kernel(*values, *size[name], *map(list, case[3:]), 1)


def error(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape
    assert found.isfinite().all()
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


def counted(name: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what a kernel writes from now on."""
    shapes: list[tuple[int, ...]] = []
    kernel: Callable[..., Tensor] = getattr(native_conv3d, f"packed_{name}")

    def call(*args: Any) -> Tensor:
        found = kernel(*args)
        shapes.append(tuple(found.shape))
        return found

    monkeypatch.setattr(native_conv3d, f"packed_{name}", call)
    return shapes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, cases in CASES.items() for case in cases],
    ids=str,
)
def test_matches_float64(name: str, case: Case, dtype: torch.dtype, level: str) -> None:
    values = operands(name, case, dtype)
    found = packed(name, case, *values)
    assert error(found, by_pytorch(name, case, *(v.double() for v in values))) <= TOLERANCE[dtype]


@each_pass
@pytest.mark.usefixtures("no_avx512")
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    before = torch.get_num_threads()
    try:
        for case in CASES[name][1], CASES[name][5]:
            values, results = operands(name, case, torch.float32), []
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                results.append(packed(name, case, *values))
            assert all(torch.equal(results[0], other) for other in results[1:])
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("no_avx512")
def test_narrow_layer_of_a_critic_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = counted("fprop", monkeypatch)
    x, w, b = torch.randn(2, 8, 6, 16, 8), torch.randn(32, 8, 4, 4, 4), torch.randn(32)
    x = x.to(memory_format=LAST)
    y = conv3d(x, w, b, stride=2, padding=1)
    assert shapes == [(2, 32, 3, 8, 4)]
    exact = conv3d(x.double(), w.double(), b.double(), stride=2, padding=1)
    assert error(y, exact) <= TOLERANCE[torch.float32]


@pytest.mark.usefixtures("no_avx512")
def test_last_layer_of_a_generator_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = counted("dgrad", monkeypatch)
    x, w = torch.randn(2, 32, 3, 4, 5).to(memory_format=LAST), torch.randn(32, 8, 4, 4, 4)
    y = conv_transpose3d(x, w, torch.ones(8), stride=2, padding=1)
    assert shapes == [(2, 8, 6, 8, 10)]
    exact = conv_transpose3d(x.double(), w.double(), torch.ones(8).double(), stride=2, padding=1)
    assert error(y, exact) <= TOLERANCE[torch.float32]


@pytest.mark.usefixtures("no_avx512")
def test_second_derivative_runs_through_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {name: counted(name, monkeypatch) for name in OPERANDS}
    x, w = torch.randn(2, 16, 6, 6, 6).to(memory_format=LAST), torch.randn(32, 16, 4, 4, 4) / 30

    def slope(dtype: torch.dtype) -> list[Tensor]:
        a, b = (t.to(dtype).requires_grad_() for t in (x, w))
        y = conv3d(a, b, stride=2, padding=1)
        (g,) = torch.autograd.grad(y.sin().sum(), a, create_graph=True)
        penalty = (g.square().sum((1, 2, 3, 4)).sqrt() - 1).square().mean()
        return [d.detach() for d in torch.autograd.grad(penalty, (a, b))]

    found = slope(torch.float32)
    assert shapes["fprop"] == [(2, 32, 3, 3, 3)] * 2  # the forward, and the derivative of dgrad
    assert shapes["dgrad"] == [(2, 16, 6, 6, 6)] * 2
    assert shapes["wgrad"] == [(32, 16, 4, 4, 4)] * 2
    for f, e in zip(found, slope(torch.float64), strict=True):
        assert error(f, e) <= 1e-5


def drawn(name: str, random: np.random.Generator) -> Case:
    """A random case that the pass takes: the channels of its lanes are whole vectors."""
    bounds = ((6, 15), (1, 5), (1, 3), (0, 3))  # of size, kernel, stride, padding
    size, kernel, stride, padding = (
        tuple(int(n) for n in random.integers(low, high, 3)) for low, high in bounds
    )
    lanes, others = int(random.integers(1, 4)), int(random.integers(1, 70))
    if name == "fprop":
        return Case((2, others, *size), 16 * lanes, kernel, stride, padding)
    if name == "dgrad":
        return Case((2, 8 * lanes, *size), others, (4, 3, 4), (2, 2, 2), padding)
    return Case((2, 16 * lanes, *size), others, kernel, stride, padding)


@each_pass
@pytest.mark.usefixtures("no_avx512")
def test_error_budget(name: str) -> None:
    random, logs = np.random.default_rng(13), []
    for _ in range(24):
        case = drawn(name, random)
        values = operands(name, case, torch.float32)
        exact = by_pytorch(name, case, *(v.double() for v in values))
        ratio = max(error(packed(name, case, *values), exact), 1e-9)
        ratio /= max(error(by_pytorch(name, case, *values), exact), 1e-9)
        assert ratio <= 2.5, (case, ratio)
        logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= 1.0


# What a pass takes of weight, kernel or channels, and one place changed at a time.
SERVED = {
    "fprop": [((32, 8, 4, 4, 4), 4, (2, 2, 1), 1), ((16, 5, 3, 3, 3), 1, (1, 1, 1), 1)],
    "dgrad": [(8, (4, 4, 4), (2, 2, 2), (2, 2, 1), 1)],
    "wgrad": [(32, (3, 3, 3), (1, 1, 2), 1), (8, (4, 4, 4), (2, 2, 1), 1)],
}
UNSERVED = [
    ("fprop", ((24, 8, 4, 4, 4), 4, (1, 1, 1), 1)),
    ("fprop", ((0, 8, 4, 4, 4), 4, (1, 1, 1), 1)),
    ("fprop", ((32, 3, 4, 4, 4), 4, (1, 1, 1), 1)),
    ("fprop", ((32, 8, 4, 4, 1), 4, (1, 1, 1), 1)),
    ("fprop", ((32, 8, 4, 4, 4), 5, (1, 1, 1), 1)),
    ("fprop", ((32, 8, 4, 4, 4), 4, (1, 1, 2), 1)),
    ("fprop", ((32, 8, 4, 4, 4), 4, (1, 1, 1), 2)),
    ("dgrad", (12, (4, 4, 4), (2, 2, 2), (1, 1, 1), 1)),
    ("dgrad", (0, (4, 4, 4), (2, 2, 2), (1, 1, 1), 1)),
    ("dgrad", (8, (4, 4, 3), (2, 2, 2), (1, 1, 1), 1)),
    ("dgrad", (8, (4, 4, 4), (2, 2, 1), (1, 1, 1), 1)),
    ("dgrad", (8, (4, 4, 4), (2, 2, 2), (1, 1, 2), 1)),
    ("dgrad", (8, (4, 4, 4), (2, 2, 2), (1, 1, 1), 2)),
    ("wgrad", (24, (4, 4, 4), (1, 1, 1), 1)),
    ("wgrad", (0, (4, 4, 4), (1, 1, 1), 1)),
    ("wgrad", (1, (4, 4, 16), (1, 1, 1), 1)),
    ("wgrad", (8, (4, 4, 3), (1, 1, 1), 1)),
    ("wgrad", (8, (4, 4, 4), (1, 1, 2), 1)),
    ("wgrad", (16, (4, 4, 4), (1, 1, 1), 2)),
]


@pytest.mark.usefixtures("no_avx512")
@pytest.mark.parametrize(("name", "unserved"), UNSERVED)
def test_the_rest_is_left_to_pytorch(name: str, unserved: tuple[Any, ...]) -> None:
    serves: Callable[..., bool] = getattr(native_conv3d, f"serves_packed_{name}")
    assert all(serves(*served) for served in SERVED[name])
    assert not serves(*unserved)


@each_pass
def test_rejects_what_does_not_fit(name: str) -> None:
    case = CASES[name][1]
    values = operands(name, case, torch.float32)
    second = OPERANDS[name][1]
    output = "y" if name == "fprop" else "g"
    with pytest.raises(ValueError, match=rf"conv_packed_{name}: {output} .* must fit together"):
        packed(name, case, values[0], values[1][:1], *values[2:])
    with pytest.raises(ValueError, match=f"{second} must be contiguous on the CPU, channels last"):
        packed(name, case, values[0], values[1].contiguous(), *values[2:])
    with pytest.raises(TypeError, match="must be float32 or bfloat16"):
        packed(name, case, values[0].double(), *values[1:])


def test_rejects_a_bias_that_does_not_fit() -> None:
    case = CASES["fprop"][1]
    x, weight, bias = operands("fprop", case, torch.float32)
    for wrong in (bias[:16], bias.bfloat16()):
        with pytest.raises(ValueError, match=r"conv_packed_fprop: bias must be \[K\]"):
            packed("fprop", case, x, weight, wrong)
