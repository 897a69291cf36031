"""The corrected resampled t says whether two arms differ, though folds share training patients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastgan.arrays import Floats

__all__ = ["Difference", "corrected_t", "detectable", "student_quantile", "student_tail"]

POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """Of two arms, over folds.

    Attributes:
        mean: first minus second.
        error: corrected standard error of the mean; 0 where all folds agree.
        freedom: degrees.
        p_above, p_below: one-sided, that the first is not above (below) the second.
        interval: 95 %.
    """

    mean: float
    error: float
    freedom: int
    p_above: float
    p_below: float
    interval: tuple[float, float]


def corrected_t(differences: Floats, share: float) -> Difference:
    """Test the mean of paired differences of folds, seeds averaged before.

    The variance of the mean is (1 / J + n_test / n_train) times that of the differences: folds
    share training patients, so J of them are not J independent trials.

    Args:
        differences: [J] of the folds, J >= 2.
        share: n_test / n_train in patients, 1 / (K - 1) of K folds of which none is thinned.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", equation 3.

    >>> found = corrected_t(np.array([0.02, 0.04, 0.00, 0.03, 0.01]), 0.25)
    >>> round(found.mean / found.error, 4), round(found.p_above, 4)
    (1.8856, 0.0662)
    """
    values = np.asarray(differences, np.float64)
    freedom = len(values) - 1
    if freedom < 1:
        raise ValueError(f"corrected_t: at least two folds, got {len(values)}")
    mean = float(values.mean())
    error = math.sqrt((1.0 / len(values) + share) * float(values.var(ddof=1)))
    reach = student_quantile(0.975, freedom) * error
    if error == 0.0:
        # Folds agree to the last bit: both did the same, or the difference is beyond doubt.
        above, below = (0.5, 0.5) if mean == 0.0 else (float(mean < 0.0), float(mean > 0.0))
    else:
        above = student_tail(mean / error, freedom)
        below = student_tail(-mean / error, freedom)
    return Difference(mean, error, freedom, above, below, (mean - reach, mean + reach))


def detectable(deviation: float, folds: int, share: float, level: float = 0.025) -> float:
    """The true difference that a one-sided corrected test finds with power 80 %.

    Args:
        deviation: of the differences between folds.
        folds: J.
        share: n_test / n_train.
        level: of the one-sided test.

    Cost: about 3 ms.
    """
    freedom = folds - 1
    critical = student_quantile(1.0 - level, freedom)
    # T exceeds its critical value when normal + shift > critical * chi / sqrt(freedom).
    chi = np.linspace(1e-6, math.sqrt(freedom) + 8.0, 601)
    log = (freedom - 1) * np.log(chi) - 0.5 * chi**2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    limits = critical * chi / math.sqrt(freedom)
    low, high = 0.0, 1000.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        found = float((weight * _normal_tail(limits - middle)).sum())
        low, high = (middle, high) if found < POWER else (low, middle)
    return high * deviation * math.sqrt(1.0 / folds + share)


def _normal_tail(x: Floats) -> Floats:
    # np has no erfc; the vectorised math.erfc is fast enough for a few thousand places.
    out: Floats = 0.5 * np.vectorize(math.erfc)(x / math.sqrt(2.0))
    return out


def student_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t.

    >>> round(student_tail(2.776445, 4), 6)
    0.025
    """
    if math.isinf(t):
        return float(t < 0)
    half = 0.5 * _incomplete_beta(0.5 * freedom, 0.5, freedom / (freedom + t * t))
    return half if t >= 0 else 1.0 - half


@lru_cache(maxsize=256)
def student_quantile(probability: float, freedom: float) -> float:
    """The t below which Student's t lies with `probability`.

    >>> round(student_quantile(0.975, 4), 4), round(student_quantile(0.025, 24), 4)
    (2.7764, -2.0639)
    """
    if probability < 0.5:
        return -student_quantile(1.0 - probability, freedom)
    low, high = 0.0, 1.0
    while student_tail(high, freedom) > 1.0 - probability:
        low, high = high, 2.0 * high
    for _ in range(60):  # halvings: past the last bit of a float64
        middle = 0.5 * (low + high)
        above = student_tail(middle, freedom) > 1.0 - probability
        low, high = (middle, high) if above else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised, by its continued fraction (Lentz's way)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    tiny = 1e-300
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), tiny)
    total = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / ((1.0 + term * d) or tiny)
            c = (1.0 + term / c) or tiny
            total *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return front * total / a
