"""Passes of conv3d with kernels of our own beside PyTorch's, pass by pass, without autograd.

Each result is compared with float64 before it is timed. Providers take turns, and each runs once
untimed in its turn. A pass that is left to PyTorch's library at
a size is not measured there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from turns import Times, in_turns

from fastgan import ops
from fastgan.ops import conv3d_passes as passes
from fastgan.ops.implementations.cpu import conv3d as native

LAST, FIRST = torch.channels_last_3d, torch.contiguous_format
# Against float64; the largest error over the largest value.
TOLERANCE = 1e-4


class Case(NamedTuple):
    """Cubes, with a padding of one voxel."""

    batch: int
    channels_in: int
    size: int
    channels_out: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        return (
            f"{self.batch}x{self.channels_in}x{self.size}^3 to {self.channels_out}, "
            f"kernel {self.kernel}, stride {self.stride}"
        )


# Layers of critics, the demo's among them (batch 8), and a block of a translator.
CASES = [
    Case(2, 1, 64, 16, 4, 2),
    Case(2, 1, 64, 32, 4, 2),
    Case(2, 1, 64, 16, 3, 1),
    Case(2, 16, 32, 32, 4, 2),
    Case(2, 32, 16, 64, 4, 2),
    Case(2, 64, 8, 128, 4, 2),
    Case(8, 8, 16, 32, 4, 2),
    Case(8, 32, 8, 128, 4, 2),
    Case(1, 32, 32, 32, 3, 1),
]
PASSES = ("forward", "input gradient", "weight gradient")
PROVIDERS = {"PyTorch-NCDHW": FIRST, "PyTorch-NDHWC": LAST, "own-NDHWC": LAST}


def geometry(case: Case) -> tuple[list[int], list[int], list[int]]:
    return [case.stride] * 3, [1] * 3, [1] * 3


def served(case: Case, order: str) -> bool:
    """Whether the pass has a kernel of our own that is chosen here."""
    stride, padding, dilation = geometry(case)
    kernel, channels = [case.kernel] * 3, case.channels_in
    weight = [case.channels_out, channels, *kernel]
    if native.serves_single(weight, stride, padding, dilation, 1):
        return True
    if order == "forward":
        width = passes.output_size([case.size] * 3, kernel, stride, padding, dilation)[2]
        return native.serves_packed_fprop(weight, width, dilation, 1)
    if order == "input gradient":
        return native.serves_packed_dgrad(channels, kernel, stride, dilation, 1)
    return native.serves_packed_wgrad(channels, kernel, dilation, 1)


def by_pytorch(order: str, case: Case, x: Tensor, weight: Tensor, g: Tensor) -> Tensor:
    common = (*geometry(case), False, [0] * 3, 1)
    aten: Any = torch.ops.aten
    if order == "forward":
        found: Tensor = aten.convolution(x, weight, None, *common)
        return found
    wanted = [order == "input gradient", order == "weight gradient", False]
    gradients = aten.convolution_backward(g, x, weight, None, *common, wanted)
    return gradients[wanted.index(True)]  # type: ignore[no-any-return]


def own(order: str, case: Case, x: Tensor, weight: Tensor, g: Tensor) -> Tensor:
    common = (*geometry(case), 1)
    if order == "forward":
        return passes.fprop(x, weight, None, *common)
    if order == "input gradient":
        return passes.dgrad(g, weight, list(x.shape[2:]), *common)
    return passes.wgrad(g, x, list(weight.shape[2:]), *common)


@pytest.mark.parametrize("order", PASSES)
@pytest.mark.parametrize("case", CASES, ids=str)
def bench_conv3d(
    case: Case, order: str, rounds: Callable[[int], int], keep: Callable[[str, Times], None]
) -> None:
    if not served(case, order):
        pytest.skip("left to PyTorch's library")
    x = torch.randn(case.batch, case.channels_in, *[case.size] * 3)
    weight = torch.randn(case.channels_out, case.channels_in, *[case.kernel] * 3)
    g = torch.randn_like(by_pytorch("forward", case, x, weight, x))
    exact = by_pytorch(order, case, x.double(), weight.double(), g.double())
    runs: dict[str, Callable[[], Tensor]] = {}
    with ops.implementation("auto"):
        for provider, layout in PROVIDERS.items():
            pass_of = own if provider.startswith("own") else by_pytorch
            values = [t.to(memory_format=layout) for t in (x, weight, g)]
            runs[provider] = run = partial(pass_of, order, case, *values)
            error = (run() - exact).abs().max() / exact.abs().max()
            assert error < TOLERANCE, f"{provider}: error {error:.2e}"
        keep(f"conv3d, {order}, {case}", in_turns(runs, rounds(25), warm=1))
