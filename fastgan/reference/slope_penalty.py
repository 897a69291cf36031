"""The penalty on the slopes of a critic in plain PyTorch: what follows once they are known.

`slope_penalty` is the definition. The explicit passes below have the signatures of every other
implementation.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SERVES", "slope_penalty", "slope_penalty_bwd", "slope_penalty_fwd", "slope_penalty_mix"]

SERVES = "every floating dtype"


def slope_penalty(
    slope: Tensor,  # [B, ...]
    *,
    target: float = 1.0,
    one_sided: bool = False,
) -> tuple[Tensor, Tensor]:  # penalty [], norms [B], at least float32
    """The definition."""
    norms = torch.linalg.vector_norm(
        slope, dim=tuple(range(1, slope.dim())), dtype=_accumulator(slope)
    )
    return _excess(norms, target, one_sided).square().mean(), norms


def slope_penalty_fwd(slope: Tensor, target: float, one_sided: bool) -> tuple[Tensor, Tensor]:
    """The value."""
    return slope_penalty(slope, target=target, one_sided=one_sided)


def slope_penalty_bwd(
    g: Tensor,  # []
    slope: Tensor,  # [B, ...]
    norms: Tensor,  # [B]
    target: float,
    one_sided: bool,
) -> Tensor:  # like slope
    """The derivative; zero where the norm is."""
    excess = _excess(norms, target, one_sided)
    factor = torch.addcdiv(norms.new_zeros(()), excess, norms, value=2 / len(norms))
    factor = torch.where(norms == 0, 0, factor) * g
    return (slope * factor.view(-1, *(1,) * (slope.dim() - 1))).to(slope.dtype)


def slope_penalty_mix(
    real: Tensor,  # [B, ...]
    fake: Tensor,  # like real
    share: Tensor,  # [B], at least float32
) -> Tensor:  # like real
    """Fake + share (real - fake)."""
    return torch.lerp(fake, real, share.to(real.dtype).view(-1, *(1,) * (real.dim() - 1)))


def _excess(norms: Tensor, target: float, one_sided: bool) -> Tensor:
    excess = norms - target
    return excess.clamp(min=0) if one_sided else excess


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
