"""Triton's convolution and its input gradient: on the GPU where one is, else in the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import triton.language as tl
import triton.runtime.interpreter as interpreter
from torch import Tensor
from torch.nn import functional

from fastgan.errors import ConfigError
from fastgan.kernels import conv3d_tiles
from fastgan.kernels.conv3d import (
    Norm,
    NormGradient,
    Products,
    Statistics,
    conv3d_dgrad,
    conv3d_fprop,
)
from fastgan.kernels.conv3d_sums import conv3d_statistics

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAST = torch.channels_last_3d
# The interpreter rounds a slope to float32, so it is one that needs no rounding.
EPS, SLOPE = 1e-5, 0.25
# Largest error over the largest value; of half width, what rounding the result alone costs. The
# interpreter cuts off digits of bfloat16 where a GPU rounds.
BOUND = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


class Case(NamedTuple):
    channels: tuple[int, int]  # of x, of y
    size: tuple[int, int, int]  # of x
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]
    batch: int = 1

    def __str__(self) -> str:
        parts = (self.size, self.kernel, self.stride, self.padding)
        return "-".join("x".join(map(str, part)) for part in parts)

    @property
    def out(self) -> tuple[int, ...]:
        return conv3d_tiles.output_size(self.size, self.kernel, self.stride, self.padding)


CASES = [
    # what networks have: 3 at stride 1, 4 at stride 2
    Case((16, 32), (3, 4, 5), (3, 3, 3), (1, 1, 1), (1, 1, 1), batch=2),
    Case((32, 16), (5, 4, 7), (4, 4, 4), (2, 2, 2), (1, 1, 1), batch=2),
    Case((48, 16), (3, 3, 3), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    # axes unlike each other, padding up to the kernel, outputs that no tap meets everywhere
    Case((16, 16), (4, 5, 6), (3, 4, 3), (2, 1, 2), (1, 0, 2)),
    Case((16, 16), (6, 6, 6), (4, 4, 4), (2, 2, 2), (0, 3, 2)),
    Case((16, 16), (5, 5, 5), (1, 1, 1), (2, 2, 2), (0, 0, 0)),
    # one row, one column; a row longer than a tile
    Case((16, 16), (1, 1, 1), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    Case((16, 16), (1, 2, 150), (3, 3, 3), (1, 1, 2), (1, 1, 1)),
]


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several tiles each, as large volumes have."""
    monkeypatch.setattr(conv3d_tiles, "_PROGRAMS", 2)


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The interpreter multiplies bfloat16's bits as whole numbers; here, what they stand for."""
    multiply = interpreter.InterpreterBuilder.create_dot

    def wide(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, wide(a), wide(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
    yield


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param  # type: ignore[no-any-return]


def volume(batch: int, channels: int, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    drawn = torch.randn(batch, channels, *size, dtype=torch.float64)
    return drawn.to(DEVICE, dtype).contiguous(memory_format=LAST)


def given(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight, and a gradient of y."""
    read, written = case.channels
    return (
        volume(case.batch, read, case.size, dtype),
        volume(written, read, case.kernel, dtype),
        volume(case.batch, written, case.out, dtype),
    )


def close(found: Tensor, expected: Tensor, dtype: torch.dtype, roundings: int = 1) -> None:
    assert found.shape == expected.shape and found.isfinite().all()
    bound = roundings * BOUND[dtype] * expected.abs().max().clamp(min=1e-3)
    assert (found.double() - expected).abs().max() <= bound


def norm_of(z: Tensor, num_groups: int, per_sample: bool = False) -> Norm:
    """Statistics of z, and an affine map."""
    wide = torch.float64 if z.dtype == torch.float64 else torch.float32
    grouped = z.double().reshape(len(z), num_groups, -1)
    mean = grouped.mean(2)
    rstd = (grouped.var(2, correction=0) + EPS).rsqrt()
    shape = (len(z), z.shape[1]) if per_sample else (z.shape[1],)
    weight, bias = (torch.randn(shape, dtype=torch.float64).to(DEVICE, z.dtype) for _ in range(2))
    return Norm(mean.to(wide), rstd.to(wide), weight, bias, num_groups, SLOPE)


def normalised(z: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """The value before the activation, and z less its mean, both float64."""
    per_group = z.shape[1] // norm.num_groups

    def of_channels(t: Tensor | None) -> Tensor:
        assert t is not None
        rows = t.double() if t.dim() == 2 else t.double().expand(len(z), -1)
        return rows.reshape(len(z), -1, 1, 1, 1)

    mean, rstd = (of_channels(t.repeat_interleave(per_group, 1)) for t in norm[:2])
    centred = z.double() - mean
    return centred * rstd * of_channels(norm.weight) + of_channels(norm.bias), centred


def test_value(case: Case, dtype: torch.dtype) -> None:
    x, weight, _ = given(case, dtype)
    bias = torch.randn(case.channels[1]).to(DEVICE, dtype)
    y, partial = conv3d_fprop(x, weight, bias, case.stride, case.padding)
    expected = functional.conv3d(
        x.double(), weight.double(), bias.double(), case.stride, case.padding
    )
    assert partial is None and y.dtype == dtype and y.is_contiguous(memory_format=LAST)
    close(y, expected, dtype)


def test_input_gradient(case: Case, dtype: torch.dtype) -> None:
    x, weight, g = given(case, dtype)
    d_x, _ = conv3d_dgrad(g, weight, None, case.size, case.stride, case.padding)
    x = x.double().requires_grad_()
    functional.conv3d(x, weight.double(), None, case.stride, case.padding).backward(g.double())
    assert x.grad is not None and d_x.dtype == dtype
    close(d_x, x.grad, dtype)


def test_transposed_convolution_adds_its_bias() -> None:
    case = CASES[1]
    _, weight, g = given(case, torch.float32)
    bias = torch.randn(case.channels[0], device=DEVICE)
    without, _ = conv3d_dgrad(g, weight, None, case.size, case.stride, case.padding)
    found, _ = conv3d_dgrad(g, weight, bias, case.size, case.stride, case.padding)
    torch.testing.assert_close(found, without + bias.view(1, -1, 1, 1, 1), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("num_groups", "per_sample"), [(16, False), (4, True), (1, False)])
def test_a_norm_is_read_through(num_groups: int, per_sample: bool, dtype: torch.dtype) -> None:
    """What lies outside the volume is 0, not what the norm makes of 0."""
    case = CASES[3]
    x, weight, _ = given(case, dtype)
    norm = norm_of(x, num_groups, per_sample)
    read = functional.leaky_relu(normalised(x, norm)[0], SLOPE)
    y, _ = conv3d_fprop(x, weight, None, case.stride, case.padding, reading=norm)
    # What is multiplied is rounded to x's dtype, like a volume that was stored.
    expected = functional.conv3d(
        read.to(dtype).double(), weight.double(), None, case.stride, case.padding
    )
    close(y, expected, dtype, roundings=2)


@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)
def test_a_norms_gradient_is_read_through(case: Case) -> None:
    """In the input gradient, and in the convolution that a second derivative asks for."""
    x, weight, g = given(case, torch.float64)
    for source, written in ((g, False), (x, True)):
        z = torch.randn_like(source)
        rows = torch.randn(len(z), 6, z.shape[1], dtype=torch.float64, device=DEVICE)
        of_u, of_centred, of_one, mu, scale, shift = (
            row.view(len(z), -1, 1, 1, 1) for row in rows.unbind(1)
        )
        u = source * torch.where((z - mu) * scale + shift > 0, 1.0, SLOPE)
        read = u * of_u + (z - mu) * of_centred + of_one
        how = NormGradient(z, rows, SLOPE)
        if written:
            found, _ = conv3d_fprop(source, weight, None, case.stride, case.padding, reading=how)
            expected = functional.conv3d(read, weight, None, case.stride, case.padding)
        else:
            found, _ = conv3d_dgrad(
                source, weight, None, case.size, case.stride, case.padding, reading=how
            )
            leaf = torch.zeros_like(x).requires_grad_()
            functional.conv3d(leaf, weight, None, case.stride, case.padding).backward(read)
            assert leaf.grad is not None
            expected = leaf.grad
        close(found, expected, torch.float64)


@pytest.mark.parametrize("num_groups", [32, 4, 1])
def test_statistics_of_what_was_written(num_groups: int, dtype: torch.dtype) -> None:
    """A mean a thousand times the deviation costs no digits."""
    case = CASES[0]
    x, weight, _ = given(case, dtype)
    bias = torch.full((case.channels[1],), 3e4, device=DEVICE, dtype=dtype)
    y, partial = conv3d_fprop(x, weight, bias, case.stride, case.padding, sums=Statistics())
    assert partial is not None and partial.dtype == torch.float64
    assert int(partial[0, :, 0, 0].sum()) == y[0, 0].numel()
    mean, rstd = conv3d_statistics(partial, num_groups, EPS, torch.float64)
    grouped = y.double().reshape(len(y), num_groups, -1)
    expected = (grouped.var(2, correction=0) + EPS).rsqrt()
    torch.testing.assert_close(mean, grouped.mean(2), rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(rstd, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)
def test_sums_with_a_norms_input(case: Case, second: bool) -> None:
    """Those that the merges of the norm's first and second derivative take."""
    x, weight, g = given(case, torch.float64)
    z = torch.randn_like(x)
    norm = norm_of(z, 4)
    behind = torch.randn_like(z) if second else None
    sums = Products(z, norm, behind)
    v, partial = conv3d_dgrad(g, weight, None, case.size, case.stride, case.padding, sums=sums)
    value, centred = normalised(z, norm)
    u = torch.where(value > 0, 1.0, SLOPE) * (v if behind is None else behind)
    rows = [u, u * centred, v, v * centred, v * u][: 5 if second else 2]
    expected = torch.stack([row.sum((2, 3, 4)) for row in rows], 1)
    assert partial is not None
    torch.testing.assert_close(partial.sum(1), expected, rtol=1e-11, atol=1e-11)


def test_the_same_bits_however_programs_are_ordered() -> None:
    case = CASES[1]
    x, weight, _ = given(case, torch.float32)
    first = conv3d_fprop(x, weight, None, case.stride, case.padding, sums=Statistics())
    again = conv3d_fprop(x, weight, None, case.stride, case.padding, sums=Statistics())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if a is not None)


@pytest.mark.parametrize(
    ("x", "weight", "geometry", "message"),
    [
        ((1, 12, 4, 4, 4), (16, 12, 3, 3, 3), ((1,) * 3, (1,) * 3), "multiples of 16 channels"),
        ((1, 16, 4, 4, 4), (16, 16, 5, 3, 3), ((1,) * 3, (1,) * 3), "kernels of 1, 3 or 4"),
        ((1, 16, 4, 4, 4), (16, 16, 3, 3, 3), ((3, 1, 1), (1,) * 3), "strides of 1 or 2"),
        ((1, 16, 4, 4, 4), (16, 16, 3, 3, 3), ((1,) * 3, (3, 1, 1)), "below the kernel"),
        ((1, 16, 2, 4, 4), (16, 16, 3, 3, 3), ((1,) * 3, (0,) * 3), "no smaller than the kernel"),
        ((1, 32, 4, 4, 4), (16, 16, 3, 3, 3), ((1,) * 3, (1,) * 3), "weight"),
    ],
)
def test_what_is_not_served_is_refused(x, weight, geometry, message) -> None:
    made = [torch.zeros(s).contiguous(memory_format=LAST) for s in (x, weight)]
    with pytest.raises(ConfigError, match=message):
        conv3d_fprop(*made, None, *geometry)


def test_tensors_of_another_kind_are_refused() -> None:
    case = CASES[0]
    x, weight, g = given(case, torch.float32)
    for wrong in (x.half(), x.contiguous()):
        with pytest.raises(ConfigError, match=r"of a kind on one|channels_last_3d"):
            conv3d_fprop(wrong, weight, None, case.stride, case.padding)
    with pytest.raises(ConfigError, match="precision must be one of"):
        conv3d_fprop(x, weight, None, case.stride, case.padding, precision="fast")
    with pytest.raises(ConfigError, match="g must be"):
        conv3d_dgrad(g, weight, None, (9, 9, 9), case.stride, case.padding)
    with pytest.raises(ConfigError, match="not normalised"):
        sums = Products(g, norm_of(g, 4))
        conv3d_fprop(
            *(x, weight, None, case.stride, case.padding), reading=norm_of(x, 4), sums=sums
        )
