"""The compiled kernels against PyTorch's formulas in float64, at every instruction set level."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops import implementation
from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cpu import norm_act as native
from fastgan.ops.norm_act import norm_act_bwd, norm_act_bwd_bwd, norm_act_fwd
from tests.ops.norm_act_passes import (
    EPS,
    SLOPE,
    Case,
    Inputs,
    autograd_passes,
    in_layout,
    make_inputs,
    native_passes,
    relative_error,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
LAYOUTS = ["channels_last", "channels_first"]
LEVELS = extension._C.isa_levels() if extension.reason() is None else []
# float32 and float64: a few roundings of sums; bfloat16: one rounding of the output
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 8e-3, torch.float64: 1e-12}

pytestmark = pytest.mark.usefixtures("poisoned_memory")


CASES = [
    Case((2, 4, 3, 5, 7), 4, "channel"),
    Case((2, 4, 3, 5, 7), 1, "sample"),
    Case((1, 1, 1, 1, 1), 1, "none"),
    Case((3, 6, 2, 3, 5), 3, "none"),
    Case((2, 1, 4, 5, 21), 1, "sample"),
    Case((1, 17, 9, 10, 11), 17, "channel"),
    Case((2, 65, 3, 5, 4), 13, "channel"),
    Case((2, 130, 2, 2, 3), 10, "sample"),
    Case((1, 8, 9, 20, 31), 4, "channel"),  # more than one chunk
    Case((2, 6, 19), 2, "channel"),
    Case((2, 6, 5, 7), 6, "sample"),
    Case((5, 8), 2, "channel"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [c for c in CASES if c.shape[2:] != (1, 1, 1)], ids=str)
def test_all_passes_match_autograd(case: Case, dtype: torch.dtype, layout: str, level: str) -> None:
    inputs = make_inputs(case, dtype, layout)
    got, wanted = native_passes(inputs), autograd_passes(inputs, torch.float64)
    assert len(got) == len(wanted)
    for result, value in zip(got, wanted, strict=True):
        assert result.dtype == dtype and result.shape == value.shape
        assert relative_error(result, value) <= TOLERANCE[dtype]
        if result.shape == inputs.x.shape:
            assert result.stride() == inputs.x.stride()


def test_one_element_per_group_gives_the_bias() -> None:
    x, bias = torch.tensor([[[3.0]], [[-2.0]]]), torch.tensor([-1.5])
    y, mean, rstd = native.norm_act_fwd(x, None, bias, 1, EPS, SLOPE)
    assert y.flatten().tolist() == pytest.approx([-0.3, -0.3])
    assert mean.flatten().tolist() == [3.0, -2.0]
    assert rstd.flatten().tolist() == pytest.approx([EPS**-0.5] * 2)
    d_x, _, d_bias = native.norm_act_bwd(torch.ones_like(x), x, mean, rstd, None, bias, 1, SLOPE)
    assert d_x.abs().max() < 1e-6
    assert d_bias is not None and d_bias.tolist() == pytest.approx([0.4])


@pytest.mark.parametrize("negative_slope", [0.0, 1.0, 2.0])
def test_negative_slopes(negative_slope: float) -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    y, _, _ = native.norm_act_fwd(x, None, None, 3, EPS, negative_slope)
    wanted = F.leaky_relu(F.group_norm(x.double(), 3, eps=EPS), negative_slope)
    assert relative_error(y, wanted) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_large_mean_does_not_cancel(offset: float, level: str) -> None:
    x = torch.randn(1, 3, 10, 12, 14) + offset
    _, mean, rstd = native.norm_act_fwd(x, None, None, 3, 0.0, SLOPE)
    values = x.double().flatten(2)
    torch.testing.assert_close(mean.double(), values.mean(2), rtol=1e-7, atol=0)
    wanted = values.var(2, correction=0).rsqrt()
    torch.testing.assert_close(rstd.double(), wanted, rtol=1e-6, atol=0)


def test_first_voxel_far_away_does_not_cancel(level: str) -> None:
    x = torch.randn(1, 2, 8, 16, 40)
    x[:, :, 0, 0, 0] = 300.0
    _, _, rstd = native.norm_act_fwd(x, None, None, 2, 0.0, SLOPE)
    wanted = x.double().flatten(2).var(2, correction=0).rsqrt()
    torch.testing.assert_close(rstd.double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bad_values_poison_their_group_alone(value: float, layout: str) -> None:
    x = torch.randn(2, 4, 3, 4, 5)
    x[1, 2, 1, 1, 1] = value
    y, _, _ = native.norm_act_fwd(in_layout(x, layout), None, None, 2, EPS, SLOPE)
    assert y[1, 2:].isnan().any(dim=0).all()
    assert y[0].isfinite().all() and y[1, :2].isfinite().all()


@pytest.mark.parametrize("missing", ["gg_x", "gg_weight", "gg_bias"])
def test_undefined_gradients_are_zero(missing: str) -> None:
    i = make_inputs(CASES[0], torch.float64, "channels_last")
    _, mean, rstd = native.norm_act_fwd(i.x, i.weight, i.bias, i.num_groups, EPS, SLOPE)
    saved = (i.g, i.x, mean, rstd, i.weight, i.bias, i.num_groups, SLOPE)
    grads: dict[str, Tensor | None] = dict(gg_x=i.gg_x, gg_weight=i.gg_weight, gg_bias=i.gg_bias)
    zeros = torch.zeros_like(grads[missing])  # type: ignore[arg-type]
    wanted = native.norm_act_bwd_bwd(*{**grads, missing: zeros}.values(), *saved)
    got = native.norm_act_bwd_bwd(*{**grads, missing: None}.values(), *saved)
    for a, b in zip(got, wanted, strict=True):
        assert a is not None and b is not None
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits_for_any_number_of_threads(dtype: torch.dtype, layout: str) -> None:
    before = torch.get_num_threads()
    try:
        for case in (Case((2, 6, 20, 20, 31), 3, "channel"), Case((9, 8, 10, 12, 20), 8, "sample")):
            inputs = make_inputs(case, dtype, layout)
            results = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(native_passes(inputs))
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(before)


def operator_passes(i: Inputs) -> list[Tensor]:
    """As `native_passes`, by the operators, which lay out what the kernels read."""
    y, mean, rstd = norm_act_fwd(i.x, i.weight, i.bias, i.num_groups, EPS, SLOPE)
    saved = (i.g, i.x, mean, rstd, i.weight, i.bias, i.num_groups, SLOPE)
    second = norm_act_bwd_bwd(i.gg_x, i.gg_weight, i.gg_bias, *saved)
    return [y, *norm_act_bwd(*saved), *second]


def test_other_strides_give_the_same_values() -> None:
    i = make_inputs(Case((3, 6, 4, 5, 7), 2, "channel"), torch.float64, "channels_last")
    wanted = native_passes(i)
    sliced = torch.randn(3, 6, 4, 5, 14, dtype=torch.float64)
    sliced[..., ::2] = i.x
    turned, turned_gg = (t.transpose(2, 4).contiguous().transpose(2, 4) for t in (i.g, i.gg_x))
    weight, gg_bias = (torch.stack([t, t], 1)[:, 0] for t in (i.weight, i.gg_bias))
    strided = dict(x=sliced[..., ::2], g=turned, gg_x=turned_gg, weight=weight, gg_bias=gg_bias)
    with implementation("native"):
        got = operator_passes(i._replace(**strided))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3, 3), (2, 4, 0, 3, 3)])
def test_empty(shape: tuple[int, ...]) -> None:
    x, weight = torch.empty(shape), torch.ones(4)
    y, mean, rstd = native.norm_act_fwd(x, weight, weight, 2, EPS, SLOPE)
    assert y.shape == x.shape and mean.shape == rstd.shape == (shape[0], 2)
    d_x, d_weight, d_bias = native.norm_act_bwd(x, x, mean, rstd, weight, weight, 2, SLOPE)
    assert d_x.shape == x.shape
    assert d_weight is not None and d_weight.tolist() == [0.0] * 4
    assert d_bias is not None and d_bias.tolist() == [0.0] * 4


def test_bfloat16_with_float32_parameters() -> None:
    i = make_inputs(CASES[0], torch.bfloat16, "channels_last")
    assert i.weight is not None and i.bias is not None
    i = i._replace(weight=i.weight.float(), bias=i.bias.float())
    y, d_x, d_weight, d_bias = native_passes(i)[:4]
    assert [t.dtype for t in (y, d_x, d_weight, d_bias)] == [torch.bfloat16] * 2 + [
        torch.float32
    ] * 2
    wanted = autograd_passes(i, torch.float64)
    assert relative_error(d_weight, wanted[2]) <= TOLERANCE[torch.float32]


def test_tensors_that_require_gradients_are_taken() -> None:
    x = torch.randn(2, 4, 3, 3, 3, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(4))
    y, _, _ = native.norm_act_fwd(x, weight, None, 2, EPS, SLOPE)
    assert not y.requires_grad


def budget_shapes(count: int) -> list[Case]:
    random = np.random.default_rng(20240607)
    cases = []
    for _ in range(count):
        C = int(random.integers(1, 40))
        groups = random.choice([g for g in range(1, C + 1) if C % g == 0])
        spatial = tuple(int(n) for n in random.integers(2, 10, 3))
        shape = (int(random.integers(1, 4)), C, *spatial)
        cases.append(Case(shape, int(groups), "channel"))
    return cases


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1.0), (torch.bfloat16, 1.2)], ids=str)
def test_error_budget(dtype: torch.dtype, limit: float) -> None:
    logs = []
    for seed, case in enumerate(budget_shapes(16)):
        inputs = make_inputs(case, dtype, LAYOUTS[seed % 2], seed)
        exact = autograd_passes(inputs, torch.float64)
        theirs = autograd_passes(inputs, dtype)
        ours = native_passes(inputs)
        # y, d_x, d_g and d_x of the second derivative: the budget is for what has many elements
        for at in (0, 1, 4, 5):
            mine = max(relative_error(ours[at], exact[at]), 1e-12)
            ratio = mine / max(relative_error(theirs[at], exact[at]), 1e-12)
            assert ratio <= 2.5, (case, at)
            logs.append(math.log(ratio))
    assert math.exp(sum(logs) / len(logs)) <= limit


REJECTED = {
    "groups": (dict(num_groups=3), ValueError, "num_groups must divide C = 4, got 3"),
    "no_groups": (dict(num_groups=0), ValueError, "num_groups must divide C = 4, got 0"),
    "eps": (dict(eps=-1.0), ValueError, "eps must be at least 0"),
    "slope": (dict(negative_slope=math.nan), ValueError, "negative_slope must be at least 0"),
    "weight_shape": (
        dict(weight=torch.ones(4, 3)),
        ValueError,
        r"weight must be \[C\] or \[B, C\], got \[4, 3\]",
    ),
    "weight_dtype": (dict(weight=torch.ones(4, dtype=torch.int64)), TypeError, "weight must be"),
    "dtype": (dict(x=torch.ones(2, 4, 3).half()), TypeError, "x must be float32, bfloat16"),
    "ndim": (dict(x=torch.ones(4)), (ValueError, IndexError), None),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejects(name: str) -> None:
    change, error, message = REJECTED[name]
    good = dict(
        x=torch.ones(2, 4, 3), weight=None, bias=None, num_groups=2, eps=EPS, negative_slope=SLOPE
    )
    with pytest.raises(error, match=message):  # type: ignore[call-overload]
        native.norm_act_fwd(**{**good, **change})  # type: ignore[arg-type]


def test_rejects_gradients_unlike_x() -> None:
    x = torch.randn(2, 4, 3)
    _, mean, rstd = native.norm_act_fwd(x, None, None, 2, EPS, SLOPE)
    with pytest.raises(ValueError, match=r"norm_act_bwd: g must be like x, .*\[1, 4, 3\]"):
        native.norm_act_bwd(x[:1], x, mean, rstd, None, None, 2, SLOPE)
    with pytest.raises(ValueError, match="mean must be contiguous"):
        native.norm_act_bwd(x, x, mean.double(), rstd, None, None, 2, SLOPE)
