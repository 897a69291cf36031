"""What one trained classifier is worth on patients it never saw."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.audit.statistics import auc

__all__ = ["METRICS", "Scores", "expected_calibration_error", "measure", "sensitivity_at"]

BINS = 10
METRICS = ("AUC", "sensitivity", "Brier", "ECE")
Scores = dict[str, float]


def measure(logits: Floats, positive: Bools, specificity: float) -> Scores:
    """AUC, sensitivity at a specificity, Brier score and expected calibration error.

    Args:
        logits: [N] of the positive class, whose prior is that of the patients tested.
        positive: [N]; both classes present, else the first two are NaN.
        specificity: at which sensitivity is read.
    """
    probability = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    truth = np.asarray(positive, bool)
    return {
        "AUC": auc(logits, truth),
        "sensitivity": sensitivity_at(logits, truth, specificity),
        "Brier": float(((probability - truth) ** 2).mean()),
        "ECE": expected_calibration_error(probability, truth),
    }


def sensitivity_at(scores: Floats, positive: Bools, specificity: float) -> float:
    """Share of positives above the least threshold that leaves so many negatives at or below it.

    >>> sensitivity_at(np.array([0.1, 0.2, 0.3, 0.25, 0.4]), np.array([0, 0, 0, 1, 1], bool), 0.6)
    1.0
    """
    negative = np.sort(scores[~positive])
    if not len(negative) or not positive.any():
        return float("nan")
    below = int(np.ceil(specificity * len(negative) - 1e-9))
    threshold = negative[max(below, 1) - 1]
    return float((scores[positive] > threshold).mean())


def expected_calibration_error(probability: Floats, positive: Bools) -> float:
    """Mean distance of predicted and observed share over ten bins of equal width, by their volumes.

    Source: Guo et al. 2017, "On calibration of modern neural networks", equation 3.

    >>> round(expected_calibration_error(np.array([0.9, 0.9, 0.1]), np.array([1, 0, 0], bool)), 4)
    0.3
    """
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    said = np.bincount(place, weights=probability, minlength=BINS)
    seen = np.bincount(place, weights=np.asarray(positive, float), minlength=BINS)
    return float(np.abs(said - seen).sum() / counts.sum())
