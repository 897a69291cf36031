"""torch's linear layer, whose parameters are lent like those of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastgan.ops.casts import cast

__all__ = ["Linear"]


class Linear(nn.Linear):
    """`torch.nn.Linear`; a subclass, so that spectral normalisation and state dicts work."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features] -> [..., out_features]."""
        device, dtype = x.device.type, self.weight.dtype
        if dtype == torch.float32 and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else cast(self.bias, dtype)
        return functional.linear(x, cast(self.weight, dtype), bias)
