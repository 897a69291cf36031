"""How likely are unseen patients, if every generated volume is a point that is blurred a little?

The generated volumes are the centres of a mixture of normal distributions. How wide each is follows
from training patients, by maximum likelihood; then unseen patients are looked up in it. Poor and
copied volumes make them unlikely: around a copy of a training patient the normal distribution
collapses, and says nothing of anybody else. Too little variety it hardly sees: normal distributions
that are wide enough, all in the middle, are no bad guess at patients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastgan.arrays import Floats
from fastgan.audit.quality.feature_distances import checked
from fastgan.errors import AuditError

__all__ = ["surprise"]

ROUNDS = 200
SETTLED = 1e-4
"""Gain of a round, in hundredths of a nat a feature, at which the widths have settled."""
NARROWEST = 1e-3
"""Least variance, as a share of the typical one between a training patient and the nearest."""


def surprise(made: Floats, known: Floats, unseen: Floats) -> Floats:
    """-100 / F log p of each unseen patient, in hundredths of a nat a feature.

    p(x) = 1 / M sum_j N(x; made_j, v_j I), where v maximises sum_i log p(known_i), by expectation
    and maximisation from the squared distance of each centre to the nearest known patient on:
    r_ij = share of N(known_i; made_j, v_j I) in p(known_i), v_j = sum_i r_ij |known_i - made_j|^2 /
    (F sum_i r_ij). No v is below a thousandth of the median squared distance of a known patient to
    the nearest other, over F. The feature likelihood divergence is the mean over unseen patients,
    less that with patients in place of generated volumes.

    Args:
        made: [M, F] standardised features of generated volumes.
        known: [T, F] of training patients.
        unseen: [H, F] of others.

    Returns:
        [H] finite.

    Raises:
        AuditError: as `frechet_distance`; known patients that are all equal.

    Cost: up to 200 rounds over T x M numbers; T x M x F for the distances.

    Source: Jiralerspong et al. 2023, "Feature likelihood divergence: evaluating the generalization
    of generative models using samples". There the widths come of 50 steps of a gradient method.
    """
    centres, fitted = checked("likelihood", made, known)
    _, others = checked("likelihood", made, unseen)
    features = centres.shape[1]
    among = _squares(fitted, fitted).fill_diagonal_(math.inf).min(dim=1).values
    among = among[among > 0]
    if not len(among):
        raise AuditError("likelihood: every known patient has an equal")
    least = NARROWEST * float(among.median()) / features
    square = _squares(fitted, centres)
    variance = (square.min(dim=0).values / features).clamp(min=least)
    before = -math.inf
    for _ in range(ROUNDS):
        joint = _joint(square, variance, features)
        total = joint.logsumexp(dim=1)
        now = 100 / features * float(total.mean())
        if now - before < SETTLED:
            break
        before = now
        share = (joint - total[:, None]).exp()
        mass = share.sum(dim=0)
        wider = (share * square).sum(dim=0) / (features * mass)
        # A centre that no patient is near keeps its width.
        variance = torch.where(mass > 0, wider, variance).clamp(min=least)
    found: Floats = _joint(_squares(others, centres), variance, features).logsumexp(dim=1).numpy()
    return -100 / features * found


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """[N, M] squared distances, exact where vectors are equal."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


def _joint(square: Tensor, variance: Tensor, features: int) -> Tensor:
    """[N, M] log of the share of each centre in the density at each vector."""
    spread = features / 2 * (2 * math.pi * variance).log() + math.log(len(variance))
    return -square / (2 * variance) - spread
