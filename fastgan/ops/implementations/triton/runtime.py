"""Whether Triton is there, and whose tensors its kernels can read."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.ops.implementations.extension import named

__all__ = ["import_error", "interpreted", "unfit"]

import_error: str | None = None
interpreted = False
try:
    import triton

    interpreted = bool(triton.knobs.runtime.interpret)
except ImportError as error:
    import_error = f"Triton cannot be imported: {error}"


def unfit(op: str, dtypes: tuple[torch.dtype, ...], x: Tensor) -> str | None:
    """Why Triton kernels of these dtypes cannot read `x`: None when they can.

    Args:
        op: name of an operator, such as "norm_act".
        dtypes: of what the kernels read.
        x: the operator's main input.
    """
    if import_error is not None:
        return import_error
    if x.device.type != ("cpu" if interpreted else "cuda"):
        instead = "the CPU, by Triton's interpreter" if interpreted else "GPUs"
        return f"{op} has Triton kernels for {instead}, got {x.device}"
    if x.dtype not in dtypes:
        return f"{op} has Triton kernels for {named(dtypes)}, got {named((x.dtype,))}"
    if x.layout != torch.strided:
        return f"{op} has Triton kernels for strided tensors, got {x.layout}"
    return None
