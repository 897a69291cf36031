"""Whether a GPU may round the factors of float32 products to TF32, ten bits of mantissa.

PyTorch lets convolutions do so and matrix products not, which is neither float32 nor fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastgan.errors import ConfigError

__all__ = ["tensor_float32"]


@contextmanager
def tensor_float32(allowed: bool) -> Iterator[None]:
    """Convolutions and matrix products alike, backward passes included, while it lasts.

    Args:
        allowed: TF32 where the device has it; False: float32.

    Raises:
        ConfigError: both of PyTorch's interfaces to the setting are in use.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        before = cudnn.allow_tf32, matmul.allow_tf32
    except RuntimeError as error:
        raise ConfigError(
            "TF32 was set by torch.backends' fp32_precision: set allow_tf32 of "
            "torch.backends.cudnn and torch.backends.cuda.matmul instead"
        ) from error
    cudnn.allow_tf32 = matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
