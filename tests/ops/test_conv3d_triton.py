"""The Triton gather convolution: on the GPU where one is, else in the interpreter.

Of its machine code see test_triton_machine_code.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastgan.errors import ConfigError
from fastgan.kernels import conv3d_tiles
from fastgan.kernels.conv3d import (
    Norm,
    NormGradient,
    Products,
    Statistics,
    conv3d_gather,
    conv3d_wgrad,
)
from fastgan.kernels.conv3d_sums import conv3d_statistics
from fastgan.kernels.norm_act_bwd import norm_act_bwd_coefficients
from fastgan.reference.norm_act import norm_act, norm_act_statistics
from fastgan.reference.norm_act_conv import norm_act_conv

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAST = torch.channels_last_3d
EPS, SLOPE = 1e-5, 0.2
# Largest error, of the largest value. The interpreter cuts off bfloat16's digits, not rounds them.
TOLERANCES = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}
DTYPES = [dtype for dtype in TOLERANCES if dtype != torch.float64 or DEVICE.type == "cpu"]


class Case(NamedTuple):
    x: tuple[int, ...]
    written: int  # K
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]

    def __str__(self) -> str:
        of = ("x".join(map(str, n)) for n in (self.x, self.kernel, self.stride, self.padding))
        return "-".join((*of, f"K{self.written}"))

    @property
    def size(self) -> tuple[int, ...]:
        return conv3d_tiles.output_size(self.x[2:], self.kernel, self.stride, self.padding)


CASES = [
    Case((1, 16, 1, 1, 1), 16, (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    Case((2, 16, 2, 3, 5), 32, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    # blocks of channels that are not full, a size that the stride does not divide
    Case((1, 16, 3, 5, 9), 48, (1, 3, 4), (1, 2, 2), (0, 1, 1)),
    Case((1, 48, 2, 3, 6), 80, (1, 1, 4), (1, 1, 2), (0, 0, 1)),
    # no padding, the widest padding, a stride wider than the kernel
    Case((1, 32, 3, 5, 5), 16, (1, 3, 3), (2, 2, 2), (0, 0, 0)),
    Case((1, 16, 2, 3, 4), 16, (3, 1, 3), (1, 1, 1), (2, 0, 2)),
    Case((1, 16, 4, 3, 7), 16, (4, 3, 1), (2, 1, 2), (3, 2, 0)),
    Case((1, 16, 3, 4, 9), 16, (1, 3, 4), (1, 2, 1), (0, 1, 2)),
]
# Of a chain.
ONE = Case((2, 16, 4, 3, 8), 16, (4, 1, 4), (2, 1, 2), (1, 0, 1))
OTHER = Case((2, 16, 2, 3, 4), 32, (1, 3, 3), (1, 1, 1), (0, 1, 1))
cases = pytest.mark.parametrize("case", CASES, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# The finest and the coarsest; the others in `test_precisions` and in blocks.
extremes = pytest.mark.parametrize("dtype", [DTYPES[0], torch.bfloat16], ids=str)


@pytest.fixture(autouse=True)
def several_tiles(monkeypatch: pytest.MonkeyPatch, poisoned_memory: None) -> None:
    # Few programs with several tiles each, as large volumes have.
    monkeypatch.setattr(conv3d_tiles, "_PROGRAMS", 2)


def volume(*shape: int, dtype: torch.dtype, offset: float = 0.0) -> Tensor:
    return (torch.randn(shape) + offset).to(DEVICE, dtype).contiguous(memory_format=LAST)


def vector(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape).to(DEVICE, dtype)


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.double().cpu(), expected.double().cpu()
    assert found.shape == expected.shape and found.isfinite().all()
    return float((found - expected).abs().max() / expected.abs().max())


def parts(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, weight, bias, g"""
    x = volume(*case.x, dtype=dtype, offset=0.5)
    weight = volume(case.written, case.x[1], *case.kernel, dtype=dtype)
    g = volume(case.x[0], case.written, *case.size, dtype=dtype)
    return x, weight, vector(case.written, dtype=dtype), g


def norm_of(z: Tensor, num_groups: int, *affine: int) -> Norm:
    exact = statistics_dtype(z.dtype)
    mean, rstd = norm_act_statistics(z.double(), num_groups, EPS)
    weight, bias = (vector(*affine, z.shape[1], dtype=exact) for _ in range(2))
    return Norm(mean.to(exact), rstd.to(exact), weight, bias, num_groups, SLOPE)


def double(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.double().cpu() for t in tensors]


@extremes
@cases
def test_forward_matches_reference(case, dtype) -> None:
    x, weight, bias, _ = parts(case, dtype)
    y, none = conv3d_gather(x, weight, bias, case.stride, case.padding)
    expected = functional.conv3d(*double(x, weight, bias), case.stride, case.padding)
    assert none is None and y.dtype == dtype and y.is_contiguous(memory_format=LAST)
    assert error(y, expected) <= TOLERANCES[dtype]


@extremes
@cases
def test_backward_matches_reference(case, dtype) -> None:
    _, weight, _, g = parts(case, dtype)
    bias = vector(case.x[1], dtype=dtype)
    d_x, none = conv3d_gather(g, weight, bias, case.stride, case.padding, size=case.x[2:])
    wide_g, wide_weight, wide_bias = double(g, weight, bias)
    expected = torch.nn.grad.conv3d_input(case.x, wide_weight, wide_g, case.stride, case.padding)
    assert none is None and d_x.dtype == dtype and d_x.is_contiguous(memory_format=LAST)
    assert error(d_x, expected + wide_bias.view(-1, 1, 1, 1)) <= TOLERANCES[dtype]


@extremes
@cases
def test_weight_gradient_matches_reference(case, dtype) -> None:
    x, _, _, g = parts(case, dtype)
    shape = (case.written, case.x[1], *case.kernel)
    wide_x, wide_g = double(x, g)
    geometry = case.stride, case.padding
    expected = torch.nn.grad.conv3d_weight(wide_x, shape, wide_g, *geometry)
    # Exchanged roles give the same sums.
    for of_g in (False, True) if dtype == DTYPES[0] else (False,):
        found = conv3d_wgrad(g, x, case.kernel, *geometry, of_g=of_g)
        assert found.dtype == dtype and found.is_contiguous(memory_format=LAST)
        assert error(found, expected) <= TOLERANCES[dtype]


@dtypes
@pytest.mark.parametrize(("case", "num_groups"), [(OTHER, 16), (CASES[2], 4), (CASES[7], 1)])
def test_weight_gradient_reads_a_norm_through(case, num_groups, dtype) -> None:
    x, _, _, g = parts(case, dtype)
    for of_g in (False, True):
        z = g if of_g else x
        norm = norm_of(z, num_groups, *([case.x[0]] if num_groups == 4 else []))
        found = conv3d_wgrad(g, x, case.kernel, case.stride, case.padding, norm=norm, of_g=of_g)
        wide_z, weight, bias = double(z, norm.weight, norm.bias)
        a = norm_act(wide_z, weight, bias, num_groups=num_groups, eps=EPS, negative_slope=SLOPE)
        outer, inner = (a, *double(x)) if of_g else (*double(g), a)
        shape = (case.written, case.x[1], *case.kernel)
        expected = torch.nn.grad.conv3d_weight(inner, shape, outer, case.stride, case.padding)
        # What is activated is rounded before it is multiplied.
        assert error(found, expected) <= 2 * TOLERANCES[dtype]


def test_error_budget_of_the_weight_gradient() -> None:
    """Beside PyTorch's in float32 over random shapes, which end within tiles."""
    draw, logs = torch.Generator().manual_seed(3), []
    for i in range(8):
        sizes = [int(n) for n in torch.randint(3, 8, (3,), generator=draw)]
        kernel, stride = (1, 1, (3, 4)[i % 2]), (1, 1, 1 + i // 2 % 2)
        case = Case((1 + i % 2, 16, *sizes), (16, 48)[i // 4], kernel, stride, (0, 0, 1))
        x, _, _, g = parts(case, torch.float32)
        shape, geometry = (case.written, 16, *kernel), (stride, case.padding)
        exact = torch.nn.grad.conv3d_weight(x.double(), shape, g.double(), *geometry)
        stock = torch.nn.grad.conv3d_weight(x, shape, g, *geometry)
        found = conv3d_wgrad(g, x, kernel, *geometry)
        least = 0.5 * torch.finfo(torch.float32).eps
        ratio = max(error(found, exact), 1e-9) / max(error(stock, exact), least)
        assert ratio <= 2.5, (case, ratio)
        logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("precision", conv3d_tiles.PRECISIONS)
def test_precisions(precision, dtype) -> None:
    """Every precision is accepted; what TF32 rounds shows on a GPU alone."""
    case = OTHER
    x, weight, bias, g = parts(case, dtype)
    geometry = case.stride, case.padding
    y, _ = conv3d_gather(x, weight, bias, *geometry, precision=precision)
    d_x, _ = conv3d_gather(g, weight, None, *geometry, size=case.x[2:], precision=precision)
    wide_weight, wide_g = double(weight, g)
    one = precision == "tf32" and dtype == torch.float32
    close = 2**-9 if one else TOLERANCES[dtype]
    assert error(y, functional.conv3d(*double(x, weight, bias), *geometry)) <= close
    assert error(d_x, torch.nn.grad.conv3d_input(case.x, wide_weight, wide_g, *geometry)) <= close


@dtypes
@pytest.mark.parametrize(("case", "num_groups"), [(OTHER, 16), (CASES[2], 4), (CASES[7], 1)])
def test_block_matches_reference(case, num_groups, dtype) -> None:
    """One kernel: normalise, activate, convolve, add the bias, and sum for the next norm."""
    z, conv_weight, conv_bias, _ = parts(case, dtype)
    norm = norm_of(z, num_groups, *([case.x[0]] if num_groups == 4 else []))
    y, partial = conv3d_gather(
        z, conv_weight, conv_bias, case.stride, case.padding, reading=norm, sums=Statistics()
    )
    mean, rstd = conv3d_statistics(partial, num_groups, EPS, statistics_dtype(dtype))
    settings = {"num_groups": num_groups, "next_groups": num_groups, "eps": EPS}
    settings |= {"negative_slope": SLOPE, "stride": case.stride, "padding": case.padding}
    wide = double(z, norm.weight, norm.bias, conv_weight, conv_bias)
    expected, _ = norm_act_conv(*wide, **settings)
    # What is activated is rounded before it is multiplied.
    assert error(y, expected) <= 2 * TOLERANCES[dtype]
    # Of what was written.
    of_y = norm_act_statistics(y.double().cpu(), num_groups, EPS)
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mean.double().cpu(), of_y[0], rtol=exact, atol=exact)
    torch.testing.assert_close(rstd.double().cpu(), of_y[1], rtol=exact, atol=0.0)


def test_statistics_of_a_large_mean() -> None:
    case = CASES[1]
    x, weight, _, _ = parts(case, torch.float32)
    bias = torch.full((case.written,), 1e4, device=DEVICE)
    y, partial = conv3d_gather(x, weight, bias, case.stride, case.padding, sums=Statistics())
    _, rstd = conv3d_statistics(partial, case.written, EPS)
    _, expected = norm_act_statistics(y.double().cpu(), case.written, EPS)
    torch.testing.assert_close(rstd.double().cpu(), expected, rtol=1e-5, atol=0.0)


@extremes
@pytest.mark.parametrize("num_groups", [16, 2])
def test_backward_of_a_chain_matches_reference(num_groups, dtype) -> None:
    """conv(act(norm(conv(x)))): two launches and a merge give the gradient of x from that of y."""
    first, second = ONE, OTHER
    x, weight_1, _, _ = parts(first, dtype)
    _, weight_2, _, g = parts(second, dtype)
    z, _ = conv3d_gather(x, weight_1, None, first.stride, first.padding)
    norm = norm_of(z, num_groups)
    sums = Products(z, norm)
    d_a, partial = conv3d_gather(
        g, weight_2, None, second.stride, second.padding, size=z.shape[2:], sums=sums
    )
    coefficients, _ = norm_act_bwd_coefficients(partial, *norm[:4], math.prod(z.shape[2:]))
    gradient = NormGradient(z, coefficients, SLOPE)
    d_x, _ = conv3d_gather(
        d_a, weight_1, None, first.stride, first.padding, size=x.shape[2:], reading=gradient
    )
    wide_z, wide_1, wide_2, wide_g, weight, bias = double(
        z, weight_1, weight_2, g, norm.weight, norm.bias
    )
    wide_z.requires_grad_()
    a = norm_act(wide_z, weight, bias, num_groups=num_groups, eps=EPS, negative_slope=SLOPE)
    y = functional.conv3d(a, wide_2, None, second.stride, second.padding)
    (d_z,) = torch.autograd.grad(y, wide_z, wide_g)
    expected = torch.nn.grad.conv3d_input(first.x, wide_1, d_z, first.stride, first.padding)
    assert error(d_x, expected) <= 4 * TOLERANCES[dtype]


@extremes
def test_sums_match_their_definition(dtype) -> None:
    case = CASES[2]
    x, weight, bias, g = parts(case, dtype)
    z = volume(*g.shape, dtype=dtype)
    norm = norm_of(z, 16)
    for of_g in (None, g):
        sums = Products(z, norm, of_g)
        y, partial = conv3d_gather(x, weight, bias, case.stride, case.padding, sums=sums)
        v, wide_z, wide_g, mean, rstd, gamma, beta = double(y, z, of_g, *norm[:4])
        each = case.written // 16
        centred = wide_z - mean.repeat_interleave(each, 1)[..., None, None, None]
        scale = (rstd.repeat_interleave(each, 1) * gamma)[..., None, None, None]
        above = centred * scale + beta.view(-1, 1, 1, 1) > 0
        u = v if wide_g is None else wide_g
        u = torch.where(above, u, SLOPE * u)
        rows = [u, u * centred]
        if of_g is not None:
            rows += [v, v * centred, v * u]
        expected = torch.stack([row.sum((2, 3, 4)) for row in rows], 1)
        close = 1e-12 if dtype == torch.float64 else 1e-5
        assert error(partial.sum(1), expected) <= close


@extremes
def test_second_order_matches_reference(dtype) -> None:
    """The tangent sweep of a gradient penalty: the same gather, the slopes of the forward."""
    first, second = ONE, OTHER
    x, weight_1, _, _ = parts(first, dtype)
    _, weight_2, _, g = parts(second, dtype)
    v = volume(*first.x, dtype=dtype)
    z, _ = conv3d_gather(x, weight_1, None, first.stride, first.padding)
    exact = statistics_dtype(dtype)
    # No norm: u alone, mean 0, scale 1, shift 0.
    rows = torch.tensor([1, 0, 0, 0, 1, 0], dtype=exact, device=DEVICE)
    slopes = NormGradient(z, rows[None, :, None].repeat(2, 1, 16), SLOPE)
    tangent, _ = conv3d_gather(v, weight_1, None, first.stride, first.padding)
    found, _ = conv3d_gather(tangent, weight_2, None, second.stride, second.padding, reading=slopes)
    wide_x, wide_1, wide_2, wide_g, wide_v, wide_z = double(x, weight_1, weight_2, g, v, z)
    wide_x.requires_grad_()
    wide_g.requires_grad_()
    wide = functional.conv3d(wide_x, wide_1, None, first.stride, first.padding)
    a = torch.where(wide_z > 0, wide, SLOPE * wide)
    y = functional.conv3d(a, wide_2, None, second.stride, second.padding)
    (d_x,) = torch.autograd.grad(y, wide_x, wide_g, create_graph=True)
    (expected,) = torch.autograd.grad(d_x, wide_g, wide_v)
    assert error(found, expected) <= 2 * TOLERANCES[dtype]


def test_padding_is_zero_behind_the_norm() -> None:
    """Where the shift is not 0, what is normalised must not be the padding."""
    z = volume(1, 16, 2, 2, 2, dtype=torch.float32)
    weight = torch.ones(16, 16, 3, 3, 3, device=DEVICE).contiguous(memory_format=LAST)
    norm = norm_of(z, 16)._replace(bias=torch.full((16,), 100.0, device=DEVICE))
    y, _ = conv3d_gather(z, weight, None, (1, 1, 1), (1, 1, 1), reading=norm)
    wide = double(z, norm.weight, norm.bias)
    a = norm_act(*wide, num_groups=16, eps=EPS, negative_slope=SLOPE)
    expected = functional.conv3d(a, weight.double().cpu(), None, 1, 1)
    assert error(y, expected) <= TOLERANCES[torch.float32]


def test_deterministic() -> None:
    case = CASES[2]
    z, weight, bias, g = parts(case, torch.float32)
    norm, geometry = norm_of(z, 4), (case.stride, case.padding)

    def results() -> tuple[Tensor | None, ...]:
        sums = Statistics()
        found = conv3d_gather(z, weight, bias, *geometry, reading=norm, sums=sums)
        return *found, conv3d_wgrad(g, z, case.kernel, *geometry, norm=norm)

    for one, other in zip(results(), results(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("multiples of 16 channels, got 8 and 16", {"x": (1, 8, 4, 4, 4)}),
        ("kernels of 1, 3 or 4", {"kernel": (5, 5, 5)}),
        ("strides of 1 or 2", {"stride": (3, 3, 3)}),
        ("padding from 0 to below the kernel", {"padding": (3, 0, 0)}),
        ("volumes no smaller than the kernel", {"x": (1, 16, 2, 4, 4), "padding": (0, 0, 0)}),
    ],
)
def test_rejects_shapes(rule, change) -> None:
    case = Case((1, 16, 4, 4, 4), 16, (3, 3, 3), (1, 1, 1), (1, 1, 1))._replace(**change)
    x = volume(*case.x, dtype=torch.float32)
    weight = volume(16, case.x[1], *case.kernel, dtype=torch.float32)
    with pytest.raises(ConfigError, match=rule):
        conv3d_gather(x, weight, None, case.stride, case.padding)


def test_rejects_tensors_that_do_not_fit() -> None:
    case = CASES[1]
    x, weight, _, g = parts(case, torch.float32)
    geometry = None, case.stride, case.padding
    with pytest.raises(ConfigError, match="channels_last_3d, got strides"):
        conv3d_gather(x.contiguous(), weight, *geometry)
    with pytest.raises(ConfigError, match=r"all of a kind on one device, got torch\.float32"):
        conv3d_gather(x, weight.bfloat16(), *geometry)
    with pytest.raises(ConfigError, match=r"precision must be one of .* got 'int8'"):
        conv3d_gather(x, weight, *geometry, precision="int8")
    with pytest.raises(
        ConfigError, match=r"x must be \[2, 32, 4, 3, 5\] .* got \[2, 32, 2, 3, 5\]"
    ):
        conv3d_gather(g, weight, *geometry, size=(4, 3, 5))
    shallow = g[:, :, 1:].contiguous(memory_format=LAST)
    with pytest.raises(ConfigError, match=r"g must be \[2, 32, 2, 3, 5\], got \[2, 32, 1, 3, 5\]"):
        conv3d_wgrad(shallow, x, case.kernel, *geometry[1:])
    with pytest.raises(ConfigError, match="a volume that is not normalised"):
        norm, of_y = norm_of(x, 16), norm_of(g, 16)
        conv3d_gather(x, weight, *geometry, reading=norm, sums=Products(g, of_y))
