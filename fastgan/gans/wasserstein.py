"""Wasserstein: the critic maximises E_P f - E_Q f over functions of bounded slope.

Optimum: over 1-Lipschitz f the value is W1(P, Q). With the two-sided gradient penalty the slope
is not 1: two points at distance d give 1 + d / (2 penalty_weight), so `wasserstein` reads high.
When the generator has won, f is constant up to the penalty and both losses are free of scale.

Source: Arjovsky et al. 2017; Gulrajani et al. 2017, equation 3.
"""

from __future__ import annotations

from fastgan.gans.objectives import Objective, register

__all__ = ["WASSERSTEIN"]

WASSERSTEIN = register(
    Objective(
        name="wasserstein",
        on_real=lambda score: -score,
        on_fake=lambda score: score,
        on_generator=lambda score: -score,
        optimum="critic_loss = -W1(P, Q), 0 at Q = P",
        measure=lambda real, fake: {"wasserstein": real.mean() - fake.mean()},
        bounded_slope=True,
        factors=(-1.0, 1.0),
    ),
    "wgan-gp",
    "wgan",
)
