"""The compiled kernels of `bias_act` on tensors; plain functions without derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded

__all__ = ["DTYPES", "SERVES", "bias_act_bwd", "bias_act_fwd", "supports"]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    return extension.unfit("bias_act", x, "cpu", DTYPES)


def bias_act_fwd(x: Tensor, bias: Tensor | None, negative_slope: float) -> tuple[Tensor, Tensor]:
    """LeakyReLU(x + bias), and which elements were above zero.

    Args:
        x: [B, C, ...] contiguous with its channels first or last, of `DTYPES`, on the CPU.
        bias: [C] contiguous in the dtype of x, or None.
        negative_slope: slope below zero.

    Returns:
        y: like x, in its layout.
        bits: [(numel + 7) // 8] uint8; bit i % 8 of byte i // 8 for element i in memory order.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes.
    Cost: one read and one write of x, and 1/8 byte an element.
    """
    y = torch.empty_like(x)
    bits = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
    loaded().bias_act_fwd(x, bias, negative_slope, torch.get_num_threads(), y, bits)
    return y, bits


def bias_act_bwd(g: Tensor, bits: Tensor, negative_slope: float) -> Tensor:
    """G where the bit is set, negative_slope g elsewhere.

    Args:
        g: [B, C, ...], in the memory order of the bits.
        bits: from `bias_act_fwd`.
        negative_slope: as in the forward.

    Returns:
        Like g.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes.
    Cost: one read and one write of g, and 1/8 byte an element.
    """
    d_x = torch.empty_like(g)
    loaded().bias_act_bwd(g, bits, negative_slope, torch.get_num_threads(), d_x)
    return d_x
