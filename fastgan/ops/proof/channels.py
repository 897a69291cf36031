"""The trials of convolutions between 16 n channels, bare and behind a norm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

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

# Taps, stride, channels of x and y: no more, because each is several kernels to compile; full
# blocks and others, of few channels and of many.
_KINDS = [(3, 1, 32, 64), (4, 2, 64, 32), (1, 1, 64, 16), (3, 1, 48, 16), (4, 2, 16, 64)]


class _Convolution(NamedTuple):
    x: tuple[int, ...]
    weight: tuple[int, ...]  # of a transposed convolution [C, K, ...]
    stride: int
    padding: int
    transposed: bool = False
    num_groups: int = 1
    slope: float = 0.2

    def bare(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv3d(x, weight, bias, stride=self.stride, padding=self.padding)

    def stock(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        function = functional.conv_transpose3d if self.transposed else functional.conv3d
        y: Tensor = function(x, weight, bias, stride=self.stride, padding=self.padding)
        return y

    def behind_norm(self, z: Tensor, w: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        function = norm_act_conv_transpose if self.transposed else norm_act_conv
        y, _ = function(
            *(z, group_statistics(z, num_groups=self.num_groups), w, b, weight),
            num_groups=self.num_groups,
            negative_slope=self.slope,
            stride=self.stride,
            padding=self.padding,
            next_groups=0,
        )
        return y

    def stock_behind_norm(self, z: Tensor, w: Tensor, b: Tensor, weight: Tensor) -> Tensor:
        a = functional.group_norm(z, self.num_groups, w, b)
        return self.stock(functional.leaky_relu(a, self.slope), weight)


def _drawn(draw: torch.Generator, shapes: int) -> Iterator[_Convolution]:
    """Every kind once or more; volumes that fill a tile, and later also such that do not."""
    for i in range(max(shapes, len(_KINDS))):
        taps, stride, read, written = _KINDS[i % len(_KINDS)]
        least = 3 if i // len(_KINDS) % 2 else 6
        sizes = (integer(draw, 1, 2), read, *(integer(draw, least, least + 4) for _ in range(3)))
        yield _Convolution(sizes, (written, read, *[taps] * 3), stride, min(taps // 2, 1))


def conv3d_trial(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """Value and two derivatives, beside PyTorch's convolution."""

    def cases() -> Iterator[Case]:
        dtypes = served("conv3d_channels", device)
        for drawn in _drawn(draw, shapes):
            x = normal(draw, *drawn.x).contiguous(memory_format=FORMS[0])
            inputs = [x, normal(draw, *drawn.weight), normal(draw, drawn.weight[0])]
            yield Case(str(tuple(drawn)), drawn.bare, drawn.stock, inputs, dtypes)

    return compare(cases(), device)


def norm_act_conv_trial(draw: torch.Generator, device: torch.device, shapes: int) -> Result:
    """The same behind norm and activation, also by a transposed convolution."""

    def cases() -> Iterator[Case]:
        dtypes = served("norm_act_conv", device)
        for i, drawn in enumerate(_drawn(draw, shapes)):
            channels, transposed = drawn.x[1], drawn.stride == 2 and drawn.x[1] == 64
            groups, slope = (channels, 4)[i % 2], (0.2, 0.0)[i // 2 % 2]
            drawn = drawn._replace(transposed=transposed, num_groups=groups, slope=slope)
            z = (1 + 2 * normal(draw, *drawn.x)).bfloat16().float()
            z = z.contiguous(memory_format=FORMS[0])
            weight, bias = normal(draw, channels), normal(draw, channels)
            bias = off_the_kink(draw, z, weight, bias, groups)
            ends = drawn.weight[1::-1] if transposed else drawn.weight[:2]
            inputs = [z, weight, bias, normal(draw, *ends, *drawn.weight[2:])]
            ours, stock = drawn.behind_norm, drawn.stock_behind_norm
            yield Case(str(tuple(drawn)), ours, stock, inputs, dtypes)

    return compare(cases(), device)
