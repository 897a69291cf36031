"""The trials of convolutions between 16 n channels, bare and behind a norm."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastgan.ops.conv3d import conv3d
from fastgan.ops.group_statistics import group_statistics
from fastgan.ops.norm_act_conv import norm_act_conv, norm_act_conv_transpose
from fastgan.ops.proof.draws import FORMS, integer, normal, served
from fastgan.ops.proof.error_ratios import Case, Result, compare
from fastgan.ops.proof.production import off_the_kink

__all__ = ["conv3d_trial", "norm_act_conv_trial"]

# Channels of x and y of the kernels between 16 n channels, by kernel and stride: no more, because
# each is several kernels to compile; full blocks and others, of few channels and of many.
_PAIRS = {(1, 1): [(64, 16)], (3, 1): [(32, 64), (48, 16)], (4, 2): [(16, 64), (64, 32)]}


def _sixteens(
    draw: torch.Generator, shapes: int
) -> Iterator[tuple[tuple[int, ...], int, int, int, int]]:
    """x, channels of y, taps, stride and padding; sizes that fill tiles and such that do not."""
    kinds = [(*kind, *pair) for kind, pairs in _PAIRS.items() for pair in pairs]
    for i in range(max(shapes, len(kinds))):
        taps, stride, read, written = kinds[i % len(kinds)]
        least = 3 if i // len(kinds) % 2 else 6
        sizes = (integer(draw, 1, 2), read, *(integer(draw, least, least + 4) for _ in range(3)))
        yield sizes, written, taps, stride, taps // 2 if taps < 4 else 1


def conv3d_trial(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """Value and two derivatives, beside PyTorch's convolution."""

    def cases() -> Iterator[Case]:
        for sizes, written, taps, stride, padding in _sixteens(draw, shapes):
            geometry = {"stride": stride, "padding": padding}
            ours, stock = partial(conv3d, **geometry), partial(functional.conv3d, **geometry)
            x = normal(draw, *sizes).contiguous(memory_format=FORMS[0])
            weight, bias = normal(draw, written, sizes[1], *[taps] * 3), normal(draw, written)
            name = f"{list(sizes)}, weight {list(weight.shape)}, {geometry}"
            yield Case(name, ours, stock, [x, weight, bias], served("conv3d_channels", device))

    return compare(cases(), device)


def norm_act_conv_trial(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """The same behind norm and activation; the last pair of channels by a transposed convolution."""

    def cases() -> Iterator[Case]:
        for i, (sizes, written, taps, stride, padding) in enumerate(_sixteens(draw, shapes)):
            transposed = stride == 2 and sizes[1] == 64
            groups, slope = (sizes[1], 4)[i % 2], (0.2, 0.0)[i // 2 % 2]
            geometry = {"stride": stride, "padding": padding}

            def stock(
                z: Tensor,
                w: Tensor,
                b: Tensor,
                kernel: Tensor,
                transposed: bool = transposed,
                groups: int = groups,
                slope: float = slope,
                geometry: dict[str, int] = geometry,
            ) -> Tensor:
                a = functional.leaky_relu(functional.group_norm(z, groups, w, b), slope)
                function = functional.conv_transpose3d if transposed else functional.conv3d
                y: Tensor = function(a, kernel, **geometry)
                return y

            def ours(
                z: Tensor,
                w: Tensor,
                b: Tensor,
                kernel: Tensor,
                transposed: bool = transposed,
                groups: int = groups,
                slope: float = slope,
                geometry: dict[str, int] = geometry,
            ) -> Tensor:
                function = norm_act_conv_transpose if transposed else norm_act_conv
                statistics = group_statistics(z, num_groups=groups)
                settings: dict[str, Any] = {"num_groups": groups, "negative_slope": slope}
                settings |= {"next_groups": 0} | geometry
                return function(z, statistics, w, b, kernel, **settings)[0]

            z = (1 + 2 * normal(draw, *sizes)).bfloat16().float()
            z = z.contiguous(memory_format=FORMS[0])
            ends = (sizes[1], written) if transposed else (written, sizes[1])
            weight, kernel = normal(draw, sizes[1]), normal(draw, *ends, *[taps] * 3)
            bias = off_the_kink(draw, z, weight, groups)
            name = f"{list(sizes)}, weight {list(kernel.shape)}, {groups} groups, {geometry}"
            inputs = [z, weight, bias, kernel]
            yield Case(name, ours, stock, inputs, served("norm_act_conv", device))

    return compare(cases(), device)
