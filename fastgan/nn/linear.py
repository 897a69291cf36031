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
        return functional.linear(x, *self.weight_and_bias(x))

    def weight_and_bias(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Both in the dtype in which they meet x."""
        device, dtype = x.device.type, self.weight.dtype
        if dtype == torch.float32 and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else cast(self.bias, dtype)
        return cast(self.weight, dtype), bias
