"""The CUDA kernels as they walk large volumes: many 16-byte rows a thread, slices and tiles.

A volume of production has about a thousand blocks of many thousand elements; one that the
emulation runs in a second would be cut so finely that a thread has a row or two. So the number
of blocks is what is made small here, which the shape of the walk depends on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.ops.implementations.cuda import norm_act as cuda_norm_act
from fastgan.ops.implementations.cuda import slope_penalty
from tests.cuda import test_conv3d as convolutions
from tests.cuda import test_norm_act as norms

BLOCKS = 3
FORMS = {"NDHWC": torch.channels_last_3d, "NCDHW": torch.contiguous_format}
DTYPES = [torch.float32, torch.bfloat16]
# Channels that fill several tiles, as 576 of 32^3 do, and 64 of a first stage.
SIZES = [(1, 64, 8, 10, 7), (1, 576, 3, 3, 5), (2, 16, 12, 9, 16), (1, 1, 32, 40, 24)]


@pytest.fixture
def few_blocks(emulated: Any) -> Iterator[None]:
    emulated.set_most_blocks(BLOCKS)
    yield
    emulated.set_most_blocks(1024)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norm_act(sizes: tuple[int, ...], form: str, dtype, kernels, few_blocks) -> None:
    case = norms.Case(0)
    draw = torch.Generator().manual_seed(sum(sizes))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    channels = sizes[1]
    case.dtype, case.slope, case.groups = dtype, 0.2, math.gcd(channels, 64)
    case.weight, case.bias = normal(channels), normal(channels)
    case.gg_weight, case.gg_bias = normal(channels), normal(channels)
    case.x = normal(*sizes) + 0.5
    for _ in range(50):  # at the kink one rounding decides the slope
        z = norms.pre_activation(case.x, case.weight, case.bias, case.groups)
        if not (near := z.abs() < 1e-4).any():
            break
        case.x = torch.where(near, normal(*sizes), case.x)
    case.x, case.g, case.gg_x = (
        t.contiguous(memory_format=FORMS[form]) for t in (case.x, normal(*sizes), normal(*sizes))
    )
    for found, wanted in zip(norms.found(case), norms.expected(case), strict=True):
        assert norms.relative_error(found, wanted) <= norms.TOLERANCE[dtype]


@pytest.mark.parametrize("form", FORMS)
def test_a_large_volume_is_walked_otherwise(form: str, emulated, kernels, few_blocks) -> None:
    """The cases above are not the small ones again: one block has what many had."""
    x = torch.randn(SIZES[0]).contiguous(memory_format=FORMS[form])
    few = kernels.norm_act_workspace("norm_act_fwd", x, 64)
    emulated.set_most_blocks(1024)
    assert few < kernels.norm_act_workspace("norm_act_fwd", x, 64) or form == "NCDHW"
    single = torch.randn(SIZES[3]).contiguous(memory_format=FORMS[form])
    many = kernels.norm_act_workspace("norm_act_fwd", single, 1)
    emulated.set_most_blocks(BLOCKS)
    assert kernels.norm_act_workspace("norm_act_fwd", single, 1) < many


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_slope_penalty(form: str, dtype: torch.dtype, kernels, few_blocks) -> None:
    slope, other = (
        torch.randn(2, 16, 12, 9, 16).to(dtype).contiguous(memory_format=FORMS[form])
        for _ in range(2)
    )
    value, norms = slope_penalty.slope_penalty_fwd(slope, 50.0, False)
    exact = torch.linalg.vector_norm(slope.double().flatten(1), dim=1)
    torch.testing.assert_close(norms.double(), exact, rtol=1e-6, atol=0)
    assert float(value) == pytest.approx(float((exact - 50).square().mean()), rel=1e-5)
    d_slope = slope_penalty.slope_penalty_bwd(torch.ones(()), slope, norms, 50.0, False)
    wanted = slope.double() * ((exact - 50) / exact).view(-1, 1, 1, 1, 1)
    bound = float(wanted.abs().max()) * torch.finfo(dtype).eps
    assert float((d_slope.double() - wanted).abs().max()) <= bound
    share = torch.tensor([0.25, 0.75])
    mixed = slope_penalty.slope_penalty_mix(slope, other, share)
    mean = torch.lerp(other.double(), slope.double(), share.double().view(-1, 1, 1, 1, 1))
    assert float((mixed.double() - mean).abs().max()) <= 4 * torch.finfo(dtype).eps * 4


@pytest.mark.parametrize("seed", [0, 1])
def test_weight_gradient_of_several_tiles_a_slice(seed: int, kernels, few_blocks) -> None:
    case = convolutions.make_case(seed, (2, 9, 40, 37), 32, (4, 4, 4), (2, 2, 2), (1, 1, 1))
    found, wanted = convolutions.run(case), convolutions.exact(case)
    assert max(convolutions.errors(found, wanted)) <= convolutions.TOLERANCE[case.x.dtype]


def test_same_bits_in_any_order_of_threads(kernels, few_blocks) -> None:
    x = torch.randn(SIZES[1]).contiguous(memory_format=torch.channels_last_3d)
    once, again = (cuda_norm_act.norm_act_fwd(x, None, None, 576, 1e-5, 0.2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
