"""The non-saturating game: the minimax critic, a generator that minimises -E log D.

Optimum: D = 1/2 and both gradients zero at Q = P, like minimax; critic_loss = log 4 and
generator_loss = log 2 there. Where the critic wins, its gradient stays of order one while that of
minimax vanishes; away from Q = P it pulls towards another q than minimax does.

Source: Goodfellow et al. 2014, section 3.
"""

from __future__ import annotations

from torch.nn.functional import softplus

from fastgan.gans.minimax import of_logits
from fastgan.gans.objectives import Objective, register

__all__ = ["NON_SATURATING"]

NON_SATURATING = register(
    Objective(
        name="non-saturating",
        on_real=lambda score: softplus(-score),
        on_fake=softplus,
        on_generator=lambda score: softplus(-score),
        optimum="D = 1/2, critic_loss = log 4, generator_loss = log 2",
        measure=of_logits,
    )
)
