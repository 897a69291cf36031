"""The CUDA kernels of convolutions of one channel, run on the CPU, against PyTorch in float64."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d, conv_transpose3d, implementation, native_cuda_conv3d
from fastgan.ops import conv3d_passes as passes

DTYPES = [torch.float32, torch.bfloat16]
# float32: a few roundings of sums; bfloat16: one rounding of the output
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 4e-3}
LAST = torch.channels_last_3d
PASSES = ("fprop", "dgrad", "wgrad")


class Case(NamedTuple):
    """Tensors of the three passes and what they are convolved with."""

    x: Tensor  # [B, 1, D, H, W]
    weight: Tensor  # [K, 1, kD, kH, kW]
    bias: Tensor | None  # [K]
    g: Tensor  # [B, K, D', H', W'] channels_last_3d
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]


def draw_case(seed: int) -> Case:
    """Any kernel, stride and padding that is served; odd sizes, and one long axis in some."""
    random = np.random.default_rng(seed)

    def three(least: int, most: int) -> tuple[int, int, int]:
        d, h, w = (int(n) for n in random.integers(least, most + 1, 3))
        return d, h, w

    kernel, stride = three(3, 4), three(1, 2)
    padding = tuple(int(random.integers(0, k)) for k in kernel)
    size = [max(k - 2 * p, 1) + int(random.integers(0, 9)) for k, p in zip(kernel, padding, strict=True)]
    if seed % 4 == 3:  # several tiles, or pieces of a plane
        axis = seed // 4 % 3
        size = [n if i == axis else min(n, 5) for i, n in enumerate(size)]
        size[axis] = int(random.integers(40, 150))
        size = [max(n, k - 2 * p) for n, k, p in zip(size, kernel, padding, strict=True)]
    channels = int(random.choice([16, 16, 32, 48]))
    return make_case(seed, (int(random.integers(1, 3)), *size), channels, kernel, stride, padding)


def make_case(seed, size, channels, kernel, stride, padding) -> Case:
    draws, dtype = torch.Generator().manual_seed(seed), DTYPES[seed % 2]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws).to(dtype)

    batch, *spatial = size
    out = passes.output_size(spatial, kernel, stride, padding, (1, 1, 1))
    bias = draw(channels) if seed % 3 else None
    g = draw(batch, channels, *out).contiguous(memory_format=LAST)
    return Case(draw(batch, 1, *spatial), draw(channels, 1, *kernel), bias, g, stride, padding)


def run(case: Case) -> list[Tensor]:
    """The three passes by the code that serves a GPU."""
    x, weight, bias, g, *geometry = case
    y, d_x, d_weight = torch.empty_like(g), torch.empty_like(x), torch.empty_like(weight)
    native_cuda_conv3d.fprop(x, weight, bias, y, *geometry)
    native_cuda_conv3d.dgrad(g, weight, d_x, *geometry)
    native_cuda_conv3d.wgrad(g, x, d_weight, *geometry)
    return [y, d_x, d_weight]


def exact(case: Case) -> list[Tensor]:
    x, weight = (t.double().requires_grad_() for t in (case.x, case.weight))
    bias = None if case.bias is None else case.bias.double()
    y = torch.nn.functional.conv3d(x, weight, bias, case.stride, case.padding)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), case.g.double())]


def errors(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    assert all(f.isfinite().all() for f in found)
    pairs = zip(found, wanted, strict=True)
    return [float((f.double() - w).abs().max() / w.abs().max().clamp(min=1e-30)) for f, w in pairs]


def test_passes_match_float64(shape_seed: int, kernels) -> None:
    case = draw_case(shape_seed)
    results = run(case)
    assert kernels.launches == 3
    for name, error in zip(PASSES, errors(results, exact(case)), strict=True):
        assert error <= TOLERANCE[case.x.dtype], (name, error)
