"""The categorical game solved by hand, for every loss: exact expectations, no samples.

Real draws are A, B, C with p = (0.6, 0.3, 0.1). The generator has one knob t and draws with
q(t) = (t, (1-t)/2, (1-t)/2), so it cannot match p, and what it settles for depends on the loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastgan.gans import Objective

__all__ = [
    "CATEGORIES",
    "LOSSES",
    "PENALTY_WEIGHT",
    "REAL",
    "best_scores",
    "divergence",
    "generated",
    "optimal_knob",
]

CATEGORIES = ("A", "B", "C")
REAL = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
# Objective -> the metric by which its critic estimates how far q is from p.
LOSSES = {
    "minimax": "jensen_shannon",
    "non-saturating": "jensen_shannon",
    "least-squares": "le_cam",
    "hinge": "total_variation",
    "wasserstein": "wasserstein",
}
# Of the slope penalty without which the Wasserstein critic has no optimum.
PENALTY_WEIGHT = 10.0


def generated(t: float) -> Tensor:
    """q(t), [3] float64."""
    return torch.tensor([t, (1.0 - t) / 2.0, (1.0 - t) / 2.0], dtype=torch.float64)


def best_scores(objective: Objective, p: Tensor, q: Tensor) -> Tensor:
    """The critic's optimum in closed form.

    Args:
        objective: any of LOSSES.
        p: [K] real shares.
        q: [K] generated shares; all positive.

    Returns:
        [K] scores. For wasserstein those of a linear critic on unit vectors, with a penalty of
        PENALTY_WEIGHT on its slope: along p - q, and as steep as the penalty allows.
    """
    if objective.name == "least-squares":
        return p / (p + q)
    if objective.name == "hinge":
        return (p - q).sign()
    if objective.name == "wasserstein":
        length = (p - q).norm()
        scores: Tensor = (p - q) / length * (1.0 + length / (2.0 * PENALTY_WEIGHT))
        return scores
    return (p / q).log()


def divergence(objective: Objective, p: Tensor, q: Tensor) -> float:
    """What the metric of LOSSES reads with the best critic."""
    s = best_scores(objective, p, q)
    loss = float((p * objective.on_real(s)).sum() + (q * objective.on_fake(s)).sum())
    return {
        "jensen_shannon": math.log(2.0) - loss / 2.0,
        "le_cam": 1.0 - 4.0 * loss,
        "total_variation": 1.0 - loss / 2.0,
        "wasserstein": -loss,
    }[LOSSES[objective.name]]


def optimal_knob(objective: Objective) -> float:
    """t* where turning the knob gains the generator nothing against the best critic.

    The critic is held fixed while the knob turns, as in training: so t* need not minimise the
    divergence, and for the non-saturating loss and least squares it does not.
    """
    direction = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64)

    def slope(t: float) -> float:
        scores = best_scores(objective, REAL, generated(t))
        return float((direction * objective.on_generator(scores)).sum())

    low, high = 0.45, 0.85
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0
