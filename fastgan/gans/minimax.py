"""The original minimax game: the generator minimises E log(1 - D) against the best critic.

Optimum: D* = p / (p + q); critic_loss = log 4 - 2 JSD(P, Q), so log 4 at Q = P, where
generator_loss = E log(1 - D) = -log 2. log D = -softplus(-s) and log(1 - D) = -softplus(s)
never overflow.

Source: Goodfellow et al. 2014, equation 1 and theorem 1.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from fastgan.gans.objectives import Objective, register

__all__ = ["MINIMAX", "jensen_shannon_bound"]


def jensen_shannon_bound(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """A lower bound of the Jensen-Shannon divergence in nats, tight for the best critic.

    Args:
        real: [B] logits of real volumes.
        fake: [B] logits of generated volumes.
    """
    loss = softplus(-real).mean() + softplus(fake).mean()
    return {"jensen_shannon": math.log(2.0) - loss / 2.0}


MINIMAX = register(
    Objective(
        name="minimax",
        on_real=lambda score: softplus(-score),
        on_fake=softplus,
        on_generator=lambda score: -softplus(score),
        optimum="D = 1/2, critic_loss = log 4, generator_loss = -log 2",
        measure=jensen_shannon_bound,
    )
)
