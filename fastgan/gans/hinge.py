"""Hinge: the critic wants real scores above 1 and generated ones below -1.

Optimum: score* = sign(p - q), so critic_loss = 2 - 2 TV with the total variation
TV = sum |p - q| / 2; 2 at Q = P.

Source: Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import relu

from fastgan.gans.objectives import Objective, register

__all__ = ["HINGE"]


def of_margins(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """What a critic of margins is watched by.

    Args:
        real: [B] scores of real volumes.
        fake: [B] scores of generated volumes.

    Returns:
        margin_real, margin_fake: share of the volumes scored on the right side with the whole
        margin, above 1 and below -1, which no longer train the critic; total_variation: a lower
        bound of the distance in [0, 1], tight for the best critic.
    """
    loss = relu(1.0 - real).mean() + relu(1.0 + fake).mean()
    return {
        "margin_real": (real >= 1.0).to(real.dtype).mean(),
        "margin_fake": (fake <= -1.0).to(fake.dtype).mean(),
        "total_variation": 1.0 - loss / 2.0,
    }


HINGE = register(
    Objective(
        name="hinge",
        on_real=lambda score: relu(1.0 - score),
        on_fake=lambda score: relu(1.0 + score),
        on_generator=lambda score: -score,
        optimum="critic_loss = 2 at Q = P, 2 - sum |p - q| in general",
        measure=of_margins,
    )
)
