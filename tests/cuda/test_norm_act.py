"""The CUDA kernels of norm_act, run on the CPU, against automatic differentiation in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.ops import norm_act
from fastgan.ops.implementations.cuda import norm_act as on_gpu

EPS, SLOPE = 1e-3, 0.2
DTYPES = [torch.float32, torch.bfloat16, torch.float64]
# float32 and float64: a few roundings of sums; bfloat16: one rounding of the output
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float64: 1e-12}


class Case:
    """A random shape [B, C, D, H, W] with all that a pass can be given, from a seed."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.dtype = DTYPES[seed % 3]
        # every other one wide: channels, or voxels, that 16-byte accesses divide
        unit = int(random.choice([1, 8]))
        C = unit * int(random.integers(1, 18 // unit + 1))
        spatial = tuple(int(n) for n in random.integers(2, 7, 3))
        if seed % 5 == 4:  # several slices of a sample, few channels
            C, spatial = int(random.choice([1, 2, 3, 8])), (16, 16, 8 * int(random.integers(1, 3)))
        if seed % 7 == 6:  # several tiles of channels
            C, spatial = int(random.choice([130, 320, 528])), (2, 3, 2)
        B = int(random.integers(1, 3))
        # a block finishes a group, or channels first a channel: few of them, for the time it takes
        self.groups = int(random.choice([g for g in range(1, min(C, 18) + 1) if C % g == 0]))
        affine = random.choice(["none", "channel", "sample"])
        self.last = bool(random.integers(2)) or seed % 7 == 6
        self.slope = float(random.choice([0.2, 0.0, 1.0]))
        draws = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draws, dtype=torch.float64).to(self.dtype)

        size = {"none": None, "channel": (C,), "sample": (B, C)}[str(affine)]
        parameters = [None if size is None else draw(*size) for _ in range(4)]
        self.weight, self.bias, self.gg_weight, self.gg_bias = parameters
        self.x = draw(B, C, *spatial) + 0.5
        for _ in range(50):  # at the kink one rounding decides the slope: keep away from it
            near = pre_activation(self.x, self.weight, self.bias, self.groups).abs() < 1e-4
            if not near.any():
                break
            self.x = torch.where(near, draw(B, C, *spatial), self.x)
        self.g, self.gg_x = draw(B, C, *spatial), draw(B, C, *spatial)
        if self.last:
            form = torch.channels_last_3d
            self.x, self.g, self.gg_x = (
                t.contiguous(memory_format=form) for t in (self.x, self.g, self.gg_x)
            )


def over_channels(affine: Tensor, x: Tensor) -> Tensor:
    rows = 1 if affine.ndim == 1 else affine.shape[0]
    return affine.double().reshape(rows, x.shape[1], *(1,) * (x.ndim - 2))


def pre_activation(x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int) -> Tensor:
    z = F.group_norm(x.double(), groups, eps=EPS)
    z = z if weight is None else z * over_channels(weight, x)
    return z if bias is None else z + over_channels(bias, x)


def expected(case: Case) -> list[Tensor]:
    """y, d_x, d_weight, d_bias, and d_g, d_x, d_weight of the second derivative, in float64."""

    def leaf(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.detach().double().requires_grad_()

    x, g, weight, bias = leaf(case.x), leaf(case.g), leaf(case.weight), leaf(case.bias)
    assert x is not None and g is not None
    y = F.leaky_relu(pre_activation(x, weight, bias, case.groups), case.slope)
    inputs = [t for t in (x, weight, bias) if t is not None]
    first = torch.autograd.grad(y, inputs, g, create_graph=True)
    cotangents = [t.double() for t in (case.gg_x, case.gg_weight, case.gg_bias) if t is not None]
    second = torch.autograd.grad(first, [g, *inputs[:2]], cotangents)
    return [t.detach() for t in (y, *first, *second)]


def found(case: Case) -> list[Tensor]:
    c, groups, slope = case, case.groups, case.slope
    y, mean, rstd = on_gpu.norm_act_fwd(c.x, c.weight, c.bias, groups, EPS, slope)
    known = on_gpu.norm_act_statistics(c.x, groups, EPS)
    assert torch.equal(known[0], mean) and torch.equal(known[1], rstd)
    again = on_gpu.norm_act_apply(c.x, mean, rstd, c.weight, c.bias, groups, slope)
    assert torch.equal(again, y)
    saved = (c.g, c.x, mean, rstd, c.weight, c.bias, groups, slope)
    first = on_gpu.norm_act_bwd(*saved)
    second = on_gpu.norm_act_bwd_bwd(c.gg_x, c.gg_weight, c.gg_bias, *saved)
    return [t for t in (y, *first, *second) if t is not None]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    assert got.isfinite().all()
    scale = max(wanted.abs().max().item(), 1e-30)
    return (got.double() - wanted).abs().max().item() / scale


def test_all_passes_match_autograd(shape_seed: int, kernels) -> None:
    case = Case(shape_seed)
    results, values = found(case), expected(case)
    assert len(results) == len(values) and kernels.launches == 5
    for result, value in zip(results, values, strict=True):
        assert result.dtype == case.dtype and result.shape == value.shape
        assert relative_error(result, value) <= TOLERANCE[case.dtype]
        if result.shape == case.x.shape:
            assert result.stride() == case.x.stride()


def test_same_bits_in_any_order_of_threads(kernels) -> None:
    case = Case(4)
    once, again = found(case), found(case)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_pointers_off_the_border(kernels) -> None:
    case = Case(1)
    wanted = found(case)
    for name in ("x", "g", "gg_x"):
        t = getattr(case, name)
        moved = torch.empty(t.numel() + 1, dtype=t.dtype)[1:].as_strided(t.shape, t.stride())
        setattr(case, name, moved.copy_(t))
    for a, b in zip(found(case), wanted, strict=True):
        assert relative_error(a, b.double()) <= TOLERANCE[case.dtype]


@pytest.mark.parametrize("missing", ["gg_x", "gg_weight", "gg_bias"])
def test_undefined_gradients_are_zero(missing: str, kernels) -> None:
    case = next(c for c in map(Case, range(30)) if c.weight is not None and c.dtype.itemsize == 8)
    zero, none = Case(0), Case(0)
    for target, value in ((zero, torch.zeros_like(getattr(case, missing))), (none, None)):
        target.__dict__.update(case.__dict__)
        setattr(target, missing, value)
    for a, b in zip(found(none), found(zero), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_large_mean_does_not_cancel(offset: float, kernels) -> None:
    x = torch.randn(1, 4, 10, 12, 14).contiguous(memory_format=torch.channels_last_3d) + offset
    x[:, :, 0, 0, 0] += 300
    mean, rstd = on_gpu.norm_act_statistics(x, 4, 0.0)
    values = x.double().flatten(2)
    torch.testing.assert_close(mean.double(), values.mean(2), rtol=1e-7, atol=0)
    wanted = values.var(2, correction=0).rsqrt()
    torch.testing.assert_close(rstd.double(), wanted, rtol=1e-6, atol=0)


def test_bad_values_poison_their_group_alone(kernels) -> None:
    x = torch.randn(2, 4, 3, 4, 5)
    x[1, 2, 1, 1, 1] = math.nan
    y, _, _ = on_gpu.norm_act_fwd(x, None, None, 2, EPS, SLOPE)
    assert y[1, 2:].isnan().all()
    assert y[0].isfinite().all() and y[1, :2].isfinite().all()


def test_gradgradcheck_through_the_operator(kernels) -> None:
    x = torch.randn(1, 4, 2, 2, 2).double().requires_grad_()
    weight, bias = (torch.randn(4).double().requires_grad_() for _ in range(2))

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return norm_act(x, weight, bias, num_groups=2)

    assert torch.autograd.gradcheck(function, (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, weight, bias), fast_mode=True)
    assert kernels.launches > 0


def test_error_budget(kernels) -> None:
    logs = []
    for seed in (0, 3, 9, 12, 15, 18, 1, 7, 10):  # float32 and bfloat16
        case = Case(seed)
        exact = expected(case)
        stock = Case(seed)
        y = F.leaky_relu(stock_norm(stock), stock.slope)
        ratio = relative_error(found(case)[0], exact[0]) / relative_error(y, exact[0])
        assert ratio <= 2.5
        logs.append(math.log(max(ratio, 1e-3)))
    assert math.exp(sum(logs) / len(logs)) <= 1.2


def stock_norm(case: Case) -> Tensor:
    """PyTorch's own, in the dtype of x."""
    z = F.group_norm(case.x, case.groups, eps=EPS)
    for parameter, join in ((case.weight, torch.mul), (case.bias, torch.add)):
        if parameter is not None:
            z = join(z, over_channels(parameter, case.x).to(case.dtype))
    return z


def test_rejects_tensors_elsewhere(kernels) -> None:
    x = torch.randn(2, 4, 3)
    with pytest.raises(
        ValueError, match=r"norm_act_fwd: weight must be \[C\] or \[B, C\], got \[3"
    ):
        on_gpu.norm_act_fwd(x, torch.ones(3), None, 2, EPS, SLOPE)
    with pytest.raises(ValueError, match="norm_act_bwd: g must be like x"):
        mean, rstd = on_gpu.norm_act_statistics(x, 2, EPS)
        on_gpu.norm_act_bwd(x[:1], x, mean, rstd, None, None, 2, SLOPE)


@pytest.mark.parametrize("shape", [(0, 4, 3, 3, 3), (2, 4, 0, 3, 3)])
def test_empty(shape: tuple[int, ...], kernels) -> None:
    x, weight = torch.empty(shape), torch.ones(4)
    y, mean, rstd = on_gpu.norm_act_fwd(x, weight, weight, 2, EPS, SLOPE)
    assert y.shape == x.shape and mean.shape == rstd.shape == (shape[0], 2)
    d_x, d_weight, d_bias = on_gpu.norm_act_bwd(x, x, mean, rstd, weight, weight, 2, SLOPE)
    assert d_x.shape == x.shape
    assert d_weight is not None and d_weight.tolist() == [0.0] * 4
    assert d_bias is not None and d_bias.tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_small_deep_volume_fills_every_multiprocessor(dtype, kernels) -> None:
    """Tiles of channels are wider at half width; slices have to be shorter by as much."""
    x = torch.empty(8, 512, 8, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    # [B, C, 2, slices] floats are its scratch memory
    slices = kernels.norm_act_workspace("norm_act_fwd", x, 512) // (8 * 512 * 2 * 4)
    tiles = 512 // (64 * 16 // x.element_size())
    assert 8 * tiles * slices >= 2 * 132
