"""Hinge: the critic wants real scores above 1 and generated ones below -1.

Optimum: score* = sign(p - q), so critic_loss = 2 - sum |p - q|, 2 at Q = P.

Source: Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018.
"""

from __future__ import annotations

from torch.nn.functional import relu

from fastgan.gans.objectives import Objective, register

__all__ = ["HINGE"]

HINGE = register(
    Objective(
        name="hinge",
        on_real=lambda score: relu(1.0 - score),
        on_fake=lambda score: relu(1.0 + score),
        on_generator=lambda score: -score,
        optimum="critic_loss = 2 at Q = P, 2 - sum |p - q| in general",
    )
)
