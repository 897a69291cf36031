"""The CUDA kernels of bias_act, run on the CPU, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import bias_act
from fastgan.ops.implementations.cuda import bias_act as on_gpu
from fastgan.reference import bias_act as reference

DTYPES = [torch.float32, torch.bfloat16, torch.float64]


def draw_case(seed: int) -> tuple[Tensor, Tensor | None, float]:
    """x [B, C, ...] channels first or last, a bias or none, a slope."""
    random = np.random.default_rng(seed)
    dtype = DTYPES[seed % 3]
    C = int(random.choice([1, 2, 3, 7, 8, 16, 33]))
    shape = (int(random.integers(1, 4)), C, *(int(n) for n in random.integers(1, 14, 3)))
    draws = torch.Generator().manual_seed(seed)
    x, bias = (torch.randn(s, generator=draws).to(dtype) for s in (shape, (C,)))
    if random.integers(2):
        x = x.contiguous(memory_format=torch.channels_last_3d)
    return x, bias if random.integers(4) else None, float(random.choice([0.2, 0.0, 1.0]))


def test_both_passes_match_reference(shape_seed: int, kernels) -> None:
    x, bias, slope = draw_case(shape_seed)
    y, bits = on_gpu.bias_act_fwd(x, bias, slope)
    # in float32, rounded once: the sum alone is rounded to bfloat16 in PyTorch's
    wide = torch.promote_types(x.dtype, torch.float32)
    z, _ = x.to(wide), None
    wanted, wanted_bits = reference.bias_act_fwd(z, None if bias is None else bias.to(wide), slope)
    assert torch.equal(y, wanted.to(x.dtype)) and y.stride() == x.stride()
    assert torch.equal(bits, wanted_bits)
    g = torch.randn_like(x)
    d_x = on_gpu.bias_act_bwd(g, bits, slope)
    wide_g = reference.bias_act_bwd(g.to(wide), bits, slope)
    assert torch.equal(d_x, wide_g.to(x.dtype)) and d_x.stride() == x.stride()


# Several rows a thread and several blocks; eight channels a row that wrap within a block, one
# channel a row that changes in each, and rows that end within a byte.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "last", "biased"),
    [
        ((1, 24, 5, 9, 19), True, True),
        ((2, 7, 2, 2, 602), False, True),
        ((3, 5, 2, 2, 202), False, True),
        ((1, 7, 3, 27, 31), False, False),
        ((1, 9, 3, 27, 31), True, True),
    ],
)
def test_rows_of_many_blocks(dtype, shape, last, biased, kernels) -> None:
    form = torch.channels_last_3d if last else torch.contiguous_format
    x = torch.randn(shape).to(dtype).contiguous(memory_format=form)
    bias = torch.randn(shape[1]).to(dtype) if biased else None
    y, bits = on_gpu.bias_act_fwd(x, bias, 0.2)
    wide = torch.promote_types(dtype, torch.float32)
    wanted, wanted_bits = reference.bias_act_fwd(
        x.to(wide), None if bias is None else bias.to(wide), 0.2
    )
    assert torch.equal(y, wanted.to(dtype)) and torch.equal(bits, wanted_bits)
    d_x = on_gpu.bias_act_bwd(x, bits, 0.2)
    assert torch.equal(d_x, reference.bias_act_bwd(x.to(wide), bits, 0.2).to(dtype))


def test_pointers_off_the_border(kernels) -> None:
    x = torch.randn(1, 3, 4, 5, 8)
    moved = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    bias = torch.randn(3)
    for a, b in zip(
        on_gpu.bias_act_fwd(moved, bias, 0.2),
        on_gpu.bias_act_fwd(x, bias, 0.2),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_nan_is_not_above_zero(kernels) -> None:
    x = torch.tensor([[float("nan"), 1.0, -1.0]])
    y, bits = on_gpu.bias_act_fwd(x, None, 0.5)
    assert y[0, 0].isnan() and y[0, 1:].tolist() == [1.0, -0.5] and bits.tolist() == [2]


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last_3d])
def test_gradgradcheck_through_the_operator(form, kernels) -> None:
    x = torch.randn(2, 3, 2, 2, 3).double().contiguous(memory_format=form).requires_grad_()
    bias = torch.randn(3).double().requires_grad_()
    assert torch.autograd.gradcheck(bias_act, (x, bias))
    assert torch.autograd.gradgradcheck(bias_act, (x, bias), fast_mode=True)
    assert kernels.launches > 0
