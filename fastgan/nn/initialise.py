"""Initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["he_normal_"]


def he_normal_(module: nn.Module, negative_slope: float) -> None:
    """Fill the weight of a convolution or linear layer from He's normal, its bias with zero.

    std = sqrt(2 / (1 + negative_slope^2)) / sqrt(fan), fan = inputs that reach one output. For a
    strided transposed convolution that is C * prod(kernel / stride), not what torch's own
    initialisers take for it. DCGAN's fixed 0.02 shrinks a norm-free critic about twofold a layer.

    Args:
        module: Conv3d, ConvTranspose3d or Linear; torch's global generator is drawn from.
        negative_slope: of the activation that follows (0 ReLU, 1 none).

    Source: He et al. 2015, "Delving deep into rectifiers", equation 14.
    """
    if isinstance(module, nn.ConvTranspose3d):
        taps = math.prod(k / s for k, s in zip(module.kernel_size, module.stride, strict=True))
        fan = module.in_channels * taps
    elif isinstance(module, nn.Conv3d):
        fan = module.in_channels // module.groups * math.prod(module.kernel_size)
    elif isinstance(module, nn.Linear):
        fan = module.in_features
    else:
        raise TypeError(f"he_normal_: no rule for {type(module).__name__}")
    with torch.no_grad():
        module.weight.normal_(0.0, math.sqrt(2.0 / (1.0 + negative_slope**2) / fan))
        if module.bias is not None:
            module.bias.zero_()
