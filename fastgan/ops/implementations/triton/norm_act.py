"""The Triton kernels of `norm_act` on tensors; plain functions without derivatives.

Their launchers in `fastgan.kernels` have the signatures of `implementations.cpu.norm_act` already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.implementations.extension import FLOATING, named
from fastgan.ops.implementations.triton import runtime

__all__ = [
    "DTYPES",
    "SERVES",
    "norm_act_apply",
    "norm_act_bwd",
    "norm_act_bwd_bwd",
    "norm_act_fwd",
    "norm_act_statistics",
    "supports",
]

if runtime.import_error is None:
    from fastgan.kernels.norm_act import norm_act_apply, norm_act_fwd, norm_act_statistics
    from fastgan.kernels.norm_act_bwd import norm_act_bwd
    from fastgan.kernels.norm_act_bwd_bwd import norm_act_bwd_bwd

# A GPU's variants are compiled and tried one by one; float64 is for tests, in the interpreter.
DTYPES = FLOATING if runtime.interpreted else (torch.float32, torch.bfloat16)
SERVES = named(DTYPES)
# The second dimension of a grid, which counts samples.
_MOST_PROGRAMS = 65535
# A merge holds the channels of a group at once.
_MOST_CHANNELS = 4096


def supports(x: Tensor) -> str | None:
    """Why the kernels cannot take `x`: None when they can."""
    if (reason := runtime.unfit("norm_act", DTYPES, x)) is not None:
        return reason
    if x.shape[0] > _MOST_PROGRAMS or x.shape[1] > _MOST_CHANNELS:
        return "norm_act has Triton kernels for at most 65,535 samples of 4,096 channels"
    return None
