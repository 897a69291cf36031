"""The penalty on a critic's slope at given points, by PyTorch's double backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["gradient_penalty"]


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    x: Tensor,  # [B, C, ...]
    *,
    target: float = 1.0,
    one_sided: bool = False,
) -> tuple[Tensor, Tensor]:  # penalty, slopes [B]
    """The definition."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    norms = slope.flatten(1).norm(dim=1)
    excess = (norms - target).clamp(min=0) if one_sided else norms - target
    return excess.square().mean(), norms.detach()
