"""The CUDA kernels of `bias_act`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.cuda import device, launch

__all__ = ["DTYPES", "SERVES", "bias_act_bwd", "bias_act_fwd", "supports"]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)
supports = partial(device.unfit, "bias_act", DTYPES)


def bias_act_fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    """As `cpu.bias_act.bias_act_fwd`."""
    y, bits = torch.empty_like(x), launch.scratch((x.numel() + 7) // 8, x)
    launch.run("bias_act_fwd", x, bias, negative_slope, launch.stream(x), y, bits)
    return y, bits


def bias_act_bwd(g: Tensor, bits: Tensor, negative_slope: float) -> Tensor:
    """As `cpu.bias_act.bias_act_bwd`."""
    d_x = torch.empty_like(g)
    launch.run("bias_act_bwd", g, bits, negative_slope, launch.stream(g), d_x)
    return d_x
