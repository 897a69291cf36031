"""The CUDA kernels of the penalty, run on the CPU, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import slope_penalty
from fastgan.ops.implementations.cuda import slope_penalty as on_gpu
from fastgan.reference import slope_penalty as reference

DTYPES = [torch.float32, torch.bfloat16, torch.float64]
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float64: 1e-13}


def draw_case(seed: int) -> tuple[Tensor, float, bool]:
    """Slopes [B, C, ...] channels first or last, a target, one-sided or not."""
    random = np.random.default_rng(seed)
    shape = (int(random.integers(1, 12)), int(random.choice([1, 3, 8])))
    shape += tuple(int(n) for n in random.integers(1, 17, 3))
    draws = torch.Generator().manual_seed(seed)
    slope = torch.randn(shape, generator=draws, dtype=torch.float64)
    # On both sides of the target, and away from it: what is left of n - target is then exact enough
    # to be held to the dtype's own rounding.
    target = float(random.choice([0.0, 1.0, 1.2]))
    below, above = random.uniform(0.3, 0.8, shape[0]), random.uniform(1.25, 3.0, shape[0])
    norms = np.where(random.random(shape[0]) < 0.5, below, above) * max(target, 1.0)
    scale = torch.from_numpy(norms) / slope.flatten(1).norm(dim=1)
    slope = (slope * scale.view(-1, 1, 1, 1, 1)).to(DTYPES[seed % 3])
    if random.integers(2):
        slope = slope.contiguous(memory_format=torch.channels_last_3d)
    return slope, target, bool(random.integers(2))


def error(got: Tensor, wanted: Tensor) -> float:
    assert got.isfinite().all()
    return float((got.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))


def test_all_passes_match_reference(shape_seed: int, kernels) -> None:
    slope, target, one_sided = draw_case(shape_seed)
    tolerance = TOLERANCE[slope.dtype]
    value, norms = on_gpu.slope_penalty_fwd(slope, target, one_sided)
    exact = slope.detach().double().requires_grad_()
    graph, wanted_norms = reference.slope_penalty(exact, target=target, one_sided=one_sided)
    wanted = graph.detach()
    wide = 1e-6 if slope.dtype != torch.float64 else 1e-13
    assert value.dtype == norms.dtype == torch.promote_types(slope.dtype, torch.float32)
    # the value is a square of differences near zero
    assert abs(float(value) - float(wanted)) <= 4 * wide * max(float(wanted), 1.0)
    assert error(norms, wanted_norms.detach()) <= wide
    g = torch.tensor(1.7, dtype=value.dtype)
    d_slope = on_gpu.slope_penalty_bwd(g, slope, norms, target, one_sided)
    (wanted_d,) = torch.autograd.grad(graph, exact, g.double())
    scale = float(wanted_d.abs().max())
    assert float((d_slope.double() - wanted_d).abs().max()) <= tolerance * scale
    assert d_slope.stride() == slope.stride()
    fake, share = torch.randn_like(slope), torch.rand(len(slope)).to(value.dtype)
    x = on_gpu.slope_penalty_mix(slope, fake, share)
    weight = share.double().view(-1, 1, 1, 1, 1)
    mixed = weight * slope.double() + (1 - weight) * fake.double()
    assert float((x.double() - mixed).abs().max()) <= tolerance * float(fake.abs().max())
    assert x.stride() == slope.stride()
    assert kernels.launches == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_by_hand(dtype: torch.dtype, kernels) -> None:
    """Norms 5 and 2: one-sided, a slope below the target neither costs nor is pulled."""
    slope = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=dtype).view(2, 2, 1, 1, 1)
    for target, one_sided, wanted, gradient in [
        (3.0, False, 2.5, [1.2, 1.6, 0.0, -1.0]),
        (3.0, True, 2.0, [1.2, 1.6, 0.0, 0.0]),
        (6.0, True, 0.0, [0.0, 0.0, 0.0, 0.0]),
    ]:
        value, norms = on_gpu.slope_penalty_fwd(slope, target, one_sided)
        g = torch.ones((), dtype=value.dtype)
        d = on_gpu.slope_penalty_bwd(g, slope, norms, target, one_sided)
        assert float(value) == pytest.approx(wanted, rel=1e-6)
        assert norms.tolist() == pytest.approx([5.0, 2.0], rel=1e-6)
        assert d.flatten().tolist() == pytest.approx(gradient, rel=TOLERANCE[dtype])


def test_zero_slope_has_zero_gradient(kernels) -> None:
    slope = torch.zeros(2, 1, 2, 2, 2)
    slope[1] = 0.1
    value, norms = on_gpu.slope_penalty_fwd(slope, 1.0, False)
    d = on_gpu.slope_penalty_bwd(torch.ones(()), slope, norms, 1.0, False)
    assert torch.equal(d[0], torch.zeros_like(d[0])) and d[1].abs().min() > 0
    assert float(value) == pytest.approx((1 + (1 - 0.1 * 8**0.5) ** 2) / 2)


@pytest.mark.parametrize("one_sided", [False, True])
def test_gradgradcheck_through_the_operator(one_sided: bool, kernels) -> None:
    slope = torch.randn(3, 2, 2, 2, 2).double().requires_grad_()

    def function(slope: Tensor) -> Tensor:
        return slope_penalty.slope_penalty_fwd(slope, 3.0, one_sided)[0]

    assert torch.autograd.gradcheck(function, slope)
    assert torch.autograd.gradgradcheck(function, slope)
    assert kernels.launches > 0
