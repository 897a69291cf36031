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
    slope = torch.randn(shape, generator=draws).to(DTYPES[seed % 3])
    slope *= 1.2 / slope[0].numel() ** 0.5  # on both sides of the target
    if random.integers(2):
        slope = slope.contiguous(memory_format=torch.channels_last_3d)
    return slope, float(random.choice([0.0, 1.0, 1.2])), bool(random.integers(2))


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
    scale = max(float(wanted_d.abs().max()), float(2 * g / len(norms) * slope.abs().max()) * 1e-2)
    assert float((d_slope.double() - wanted_d).abs().max()) <= 20 * tolerance * scale
    assert d_slope.stride() == slope.stride()
    fake, share = torch.randn_like(slope), torch.rand(len(slope)).to(value.dtype)
    x = on_gpu.slope_penalty_mix(slope, fake, share)
    weight = share.double().view(-1, 1, 1, 1, 1)
    mixed = weight * slope.double() + (1 - weight) * fake.double()
    assert float((x.double() - mixed).abs().max()) <= tolerance * float(fake.abs().max())
    assert x.stride() == slope.stride()
    assert kernels.launches == 3


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
