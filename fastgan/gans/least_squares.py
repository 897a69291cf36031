"""Least squares: real volumes score 1, generated ones 0, the generator wants 1.

Optimum: score* = p / (p + q), 1/2 at Q = P, where critic_loss = 1/4 and generator_loss = 1/8.

Source: Mao et al. 2017, equation 9 (a = 0, b = c = 1).
"""

from __future__ import annotations

from fastgan.gans.objectives import Objective, register

__all__ = ["LEAST_SQUARES"]

LEAST_SQUARES = register(
    Objective(
        name="least-squares",
        on_real=lambda score: (score - 1.0).square() / 2.0,
        on_fake=lambda score: score.square() / 2.0,
        on_generator=lambda score: (score - 1.0).square() / 2.0,
        optimum="score = 1/2, critic_loss = 1/4, generator_loss = 1/8",
    )
)
