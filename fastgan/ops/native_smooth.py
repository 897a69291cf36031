"""The compiled kernel of `smooth` on tensors; a plain function without derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.native import dense, loaded, supports

__all__ = ["smooth", "supports"]


def smooth(x: Tensor) -> Tensor:
    """Binomial filter (1, 2, 1) / 4 along each spatial axis; the edge voxel goes on outside.

    Args:
        x: [B, C, D, H, W] float32, bfloat16 or float64 on the CPU.

    Returns:
        Like x, in its layout (channels last if x is dense in neither layout).

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        RuntimeError: if the extension is not loaded.

    Deterministic: yes.
    Cost: each plane of x is read for three planes of the result.
    """
    x = dense(x)
    y = torch.empty_like(x)
    loaded().smooth(x, torch.get_num_threads(), y)
    return y
