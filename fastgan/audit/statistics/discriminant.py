"""A ridge discriminant reads classes from features; its user says how strong the ridge is."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats

__all__ = ["discriminant_scores", "ridge_weights", "standardised"]


def standardised(
    reference: Floats, *others: Floats, least: float = 1e-9, limit: float = np.inf
) -> list[Floats]:
    """The other features, less the mean and over the deviation of the reference [N, F].

    Args:
        reference: what sets the scale.
        others: [M, F] each.
        least: deviation, relative to a mean above 1, below which a column is left out.
        limit: deviations beyond which values count as this many.
    """
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    kept = deviation > least * np.maximum(1.0, np.abs(mean))
    return [
        np.clip((other[:, kept] - mean[kept]) / deviation[kept], -limit, limit) for other in others
    ]


def ridge_weights(features: Floats, target: Floats, ridge: float) -> Floats:
    """The weights [F] or [F, K] of ridge regression of centred targets [N] or [N, K]."""
    normal = features.T @ features + ridge * np.eye(features.shape[1])
    weights: Floats = np.linalg.solve(normal, features.T @ target)
    return weights


def discriminant_scores(
    fitted: Floats, target: Floats | Bools, others: Floats, *, ridge: float
) -> Floats:
    """Scores [M] or [M, K] of other volumes by a discriminant fitted to volumes of known class.

    Args:
        fitted: [N, F] features of volumes of known class.
        target: [N] or [N, K] membership, 0 or 1.
        others: [M, F] features to score.
        ridge: strength per volume, in squared deviations.

    Source: Hastie, Tibshirani and Friedman 2009, "The elements of statistical learning", 4.3.
    """
    x, scored = standardised(fitted, fitted, others, least=1e-6)
    scores: Floats = scored @ ridge_weights(x, target - target.mean(axis=0), ridge * len(x))
    return scores
