"""The compiled kernel of `smooth` on tensors; a plain function without derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.implementations import extension
from fastgan.ops.implementations.extension import loaded

__all__ = ["DTYPES", "SERVES", "smooth", "supports"]

DTYPES = extension.FLOATING
SERVES = extension.named(DTYPES)


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    return extension.unfit("smooth", x, "cpu", DTYPES)


def smooth(x: Tensor) -> Tensor:
    """Binomial filter (1, 2, 1) / 4 along each spatial axis; the edge voxel goes on outside.

    Args:
        x: [B, C, D, H, W] contiguous with its channels first or last, of `DTYPES`, on the CPU.

    Returns:
        Like x, in its layout.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes.
    Cost: each plane of x is read for three planes of the result.
    """
    y = torch.empty_like(x)
    loaded().smooth(x, torch.get_num_threads(), y)
    return y
