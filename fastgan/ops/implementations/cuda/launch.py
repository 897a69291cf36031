"""What every call of a CUDA kernel needs: its entry, the stream, scratch memory, a typed error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.errors import DeviceError
from fastgan.ops.implementations import extension

__all__ = ["kernels", "run", "scratch", "stream"]


def kernels() -> Any:
    """The extension's entries to its CUDA kernels."""
    return extension.loaded().cuda


def stream(x: Tensor) -> int:
    """Handle of the current stream of a tensor's device."""
    return int(torch.cuda.current_stream(x.device).cuda_stream)


def run(name: str, *args: Any) -> None:
    """Call one of `kernels()`.

    Raises:
        ValueError, TypeError: naming the rule that the arguments break.
        DeviceError: the launch failed, with CUDA's reason.
    """
    try:
        getattr(kernels(), name)(*args)
    except RuntimeError as error:
        raise DeviceError(str(error)) from error


def scratch(size: int, x: Tensor) -> Tensor:
    """Memory of so many bytes beside x."""
    return torch.empty(size, dtype=torch.uint8, device=x.device)
