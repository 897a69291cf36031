"""Least squares: real volumes score 1, generated ones 0, the generator wants 1.

Optimum: score* = p / (p + q), 1/2 at Q = P, where critic_loss = 1/4 and generator_loss = 1/8.
In general critic_loss = (1 - LC) / 4 with Le Cam's divergence LC = sum (p - q)^2 / (p + q) / 2.

Source: Mao et al. 2017, equation 9 (a = 0, b = c = 1).
"""

from __future__ import annotations

from torch import Tensor

from fastgan.gans.objectives import Objective, register

__all__ = ["LEAST_SQUARES"]


def of_squares(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What a critic of scores 1 and 0 is watched by.

    Args:
        real: [B] scores of real volumes.
        fake: [B] scores of generated volumes.

    Returns:
        d_real, d_fake: mean D(x) and D(G(z)), which are the scores themselves and no
        probabilities; le_cam: a lower bound of the divergence in [0, 1], tight for the best critic.
    """
    loss = ((real - 1.0).square().mean() + fake.square().mean()) / 2.0
    return {"d_real": real.mean(), "d_fake": fake.mean(), "le_cam": 1.0 - 4.0 * loss}


LEAST_SQUARES = register(
    Objective(
        name="least-squares",
        on_real=lambda score: (score - 1.0).square() / 2.0,
        on_fake=lambda score: score.square() / 2.0,
        on_generator=lambda score: (score - 1.0).square() / 2.0,
        optimum="score = 1/2, critic_loss = 1/4, generator_loss = 1/8",
        measure=of_squares,
    )
)
