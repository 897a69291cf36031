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

__all__ = ["MINIMAX", "of_logits"]


def of_logits(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What a critic of logits is watched by.

    Args:
        real: [B] logits of real volumes.
        fake: [B] logits of generated volumes.

    Returns:
        d_real, d_fake: mean D(x) and D(G(z)), probabilities; jensen_shannon: a lower bound of the
        divergence in nats, tight for the best critic.
    """
    loss = softplus(-real).mean() + softplus(fake).mean()
    return {
        "d_real": real.sigmoid().mean(),
        "d_fake": fake.sigmoid().mean(),
        "jensen_shannon": math.log(2.0) - loss / 2.0,
    }


MINIMAX = register(
    Objective(
        name="minimax",
        on_real=lambda score: softplus(-score),
        on_fake=softplus,
        on_generator=lambda score: -softplus(score),
        optimum="D = 1/2, critic_loss = log 4, generator_loss = -log 2",
        measure=of_logits,
    )
)
