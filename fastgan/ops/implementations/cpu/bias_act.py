"""The compiled kernels of `bias_act`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded

__all__ = ["DTYPES", "SERVES", "bias_act_bwd", "bias_act_fwd", "supports"]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)
supports = partial(extension.unfit, "bias_act", "cpu", DTYPES)


def bias_act_fwd(
    x: Tensor,  # [B, C, ...]
    bias: Tensor | None,  # [C] in the dtype of x
    negative_slope: float,
) -> tuple[Tensor, Tensor]:
    """LeakyReLU(x + bias) like x, and which elements were above zero.

    Those are bits [(numel + 7) // 8] uint8: bit i % 8 of byte i // 8 for element i in memory order.
    """
    y = torch.empty_like(x)
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
    loaded().bias_act_fwd(x, bias, negative_slope, torch.get_num_threads(), y, bits)
    return y, bits


def bias_act_bwd(g: Tensor, bits: Tensor, negative_slope: float) -> Tensor:
    """G where a bit is set, negative_slope g elsewhere; g [B, C, ...] in the order of the bits."""
    d_x = torch.empty_like(g)
    loaded().bias_act_bwd(g, bits, negative_slope, torch.get_num_threads(), d_x)
    return d_x
