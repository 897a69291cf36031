"""The CUDA kernels of convolutions of one channel, run on the CPU, against PyTorch in float64."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.ops import conv3d, conv_transpose3d, implementation
from fastgan.ops import conv3d_passes as passes
from fastgan.ops.implementations.cuda import conv3d as on_gpu
from fastgan.ops.implementations.cuda import launch

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
    size = [
        max(k - 2 * p, 1) + int(random.integers(0, 9)) for k, p in zip(kernel, padding, strict=True)
    ]
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
    on_gpu.single_fprop(x, weight, bias, y, *geometry)
    on_gpu.single_dgrad(g, weight, d_x, *geometry)
    on_gpu.single_wgrad(g, x, d_weight, *geometry)
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


def test_same_bits_in_any_order_of_threads(kernels) -> None:
    case = draw_case(3)
    once, again = run(case), run(case)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_several_tiles_a_slice(kernels) -> None:
    case = make_case(0, (1100, 3, 3, 5), 16, (3, 3, 3), (1, 1, 2), (0, 0, 1))
    d_weight = torch.empty_like(case.weight)
    on_gpu.single_wgrad(case.g, case.x, d_weight, case.stride, case.padding)
    assert errors([d_weight], exact(case)[2:])[0] <= TOLERANCE[torch.float32]


def test_pointers_off_the_border(kernels) -> None:
    case = draw_case(2)

    def moved(t: Tensor) -> Tensor:
        place = torch.empty(t.numel() + 1, dtype=t.dtype)[1:]
        return place.as_strided(t.shape, t.stride()).copy_(t)

    off = case._replace(x=moved(case.x), weight=moved(case.weight), g=moved(case.g))
    assert off.g.data_ptr() % 16 != 0
    for a, b in zip(run(off)[1:], run(case)[1:], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("where", ["x", "weight", "g"])
def test_a_bad_value_reaches_its_products_alone(where: str, kernels) -> None:
    # The last voxels have no output at stride 2, and a tile reaches beyond the volume.
    case = make_case(0, (1, 6, 8, 8), 16, (3, 3, 3), (2, 2, 2), (1, 0, 0))
    getattr(case, where)[0, 0, -1, -1, -1] = math.nan
    for found, wanted in zip(run(case), exact(case), strict=True):
        assert torch.equal(found.isnan(), wanted.isnan())


def test_error_budget(kernels) -> None:
    logs: dict[torch.dtype, list[float]] = {dtype: [] for dtype in DTYPES}
    for seed in (0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14):
        case = draw_case(seed)
        wanted = exact(case)
        with implementation("reference"):
            geometry = (case.stride, case.padding, (1, 1, 1), 1)
            stock = [
                passes.fprop(case.x, case.weight, case.bias, *geometry),
                passes.dgrad(case.g, case.weight, case.x.shape[2:], *geometry),
                passes.wgrad(case.g, case.x, case.weight.shape[2:], *geometry),
            ]
        for ours, theirs in zip(errors(run(case), wanted), errors(stock, wanted), strict=True):
            ratio = max(ours, 1e-9) / max(theirs, 1e-9)
            assert ratio <= 2.5, (seed, ratio)
            logs[case.x.dtype].append(math.log(ratio))
    mean = {dtype: math.exp(sum(found) / len(found)) for dtype, found in logs.items()}
    assert mean[torch.float32] <= 1.0 and mean[torch.bfloat16] <= 1.2, mean


def test_derivatives_through_the_operator(kernels) -> None:
    # In float32, so against float64 and not by differences.
    case = make_case(0, (2, 4, 6, 8), 16, (4, 4, 4), (2, 2, 2), (1, 1, 1))

    def slope(dtype: torch.dtype) -> list[Tensor]:
        x, w = (t.to(dtype).requires_grad_() for t in (case.x, case.weight))
        y = conv3d(x, w, stride=2, padding=1)
        (g,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        penalty = (g.flatten(1).norm(dim=1) - 1).square().mean() + y.square().mean()
        return [d.detach() for d in torch.autograd.grad(penalty, (x, w))]

    with implementation("native"):
        found = slope(torch.float32)
    assert kernels.launches > 5
    assert max(errors(found, slope(torch.float64))) <= 1e-5


def test_last_layer_of_a_generator(kernels) -> None:
    x, w = torch.randn(1, 16, 3, 4, 5).to(memory_format=LAST), torch.randn(16, 1, 4, 4, 4)
    with implementation("native"):
        y = conv_transpose3d(x, w, torch.ones(1), stride=2, padding=1)
    assert kernels.launches == 1
    wanted = conv_transpose3d(x.double(), w.double(), torch.ones(1).double(), stride=2, padding=1)
    assert max(errors([y], [wanted])) <= TOLERANCE[torch.float32]


def test_the_rest_is_pytorchs(kernels) -> None:
    with implementation("native"):
        assert conv3d(torch.empty(0, 1, 4, 4, 4), torch.ones(16, 1, 3, 3, 3)).shape[0] == 0
        conv3d(torch.ones(1, 1, 4, 4, 4), torch.ones(8, 1, 3, 3, 3))
        conv3d(torch.ones(1, 1, 4, 4, 4).double(), torch.ones(16, 1, 3, 3, 3).double())
    assert kernels.launches == 0


def test_rejects_what_does_not_fit(kernels) -> None:
    x, weight, bias, g, *geometry = draw_case(2)
    y = torch.empty_like(g)
    with pytest.raises(ValueError, match=r"conv_single_fprop: x .* must fit together"):
        on_gpu.single_fprop(x[:, :, 1:], weight, bias, y, *geometry)
    with pytest.raises(TypeError, match="x must be float32 or bfloat16, got float64"):
        on_gpu.single_fprop(x.double(), weight, bias, y, *geometry)
    with pytest.raises(ValueError, match=r"bias must be \[K\]"):
        on_gpu.single_fprop(x, weight, torch.ones(8), y, *geometry)
    off = torch.empty(g.numel() + 1)[1:].as_strided(g.shape, g.stride())
    with pytest.raises(ValueError, match="y must begin on a 16-byte border"):
        on_gpu.single_fprop(x, weight, bias, off, *geometry)
    with pytest.raises(ValueError, match="workspace must be"):
        scratch = torch.empty(16, dtype=torch.uint8)
        launch.run("conv_single_wgrad", g, x, *geometry, 0, scratch, weight)
