"""A generalised Pareto tail gives p-values beyond the largest value of a null sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats
from fastgan.audit.rules import limit, whole
from fastgan.errors import AuditError

__all__ = ["LEAST_EXCESSES", "ParetoTail"]

SHAPE_SPREAD = limit("memorization.copies.shape_spread")
"""Mean of the exponential prior of how much a shape exceeds the least one."""
LEAST_EXCESSES = whole("memorization.copies.least_excesses")
"""Null values above the threshold from which a tail may be fitted: 200 nulls at the 95 % quantile.
Fewer say nothing of a shape."""

# So many rates are tried, up to 10,000 times that of the least shape, where the shape is above 2
# for any sample; the interval around the best is divided again so often.
_LARGEST_RATE, _RATES, _ZOOMS = 1e4, 40, 4


@dataclass(frozen=True)
class ParetoTail:
    """A null sample with a fitted upper tail.

    Source: Pickands 1975, "Statistical inference using extreme order statistics"; likelihood in one
    parameter of Grimshaw 1993, "Computing maximum likelihood estimates for the generalized Pareto
    distribution".
    """

    null: Floats
    """[N] ascending."""
    threshold: float
    scale: float
    shape: float
    excesses: int
    """Null values above the threshold."""

    @staticmethod
    def fit(null: Floats, quantile: float = 0.95, least_shape: float = 0.1) -> ParetoTail:
        """The tail of null values [N] above one of their quantiles.

        The likeliest of all tails whose shape is at least `least_shape`: one that ends, or falls
        as fast as an exponential, makes of a value a little beyond the sample's largest one that
        cannot be. Larger shapes are the less likely beforehand, exponentially: a shape fitted to
        20 excesses alone is often so large that nothing lies beyond such a tail.

        Raises:
            AuditError: NaN or infinity, too few values, or a tail without spread.

        >>> tail = ParetoTail.fit(-np.log(1 - (np.arange(1000) + 0.5) / 1000))
        >>> round(tail.threshold, 1), tail.shape
        (3.0, 0.1)
        """
        ordered = np.sort(np.asarray(null, dtype=np.float64))
        if not np.isfinite(ordered).all():
            raise AuditError("Pareto tail: null values must be finite")
        least = int(np.ceil(LEAST_EXCESSES / (1 - quantile) - 1e-6))
        if len(ordered) < least:
            raise AuditError(f"Pareto tail: needs at least {least} null values, got {len(ordered)}")
        threshold = float(np.quantile(ordered, quantile, method="lower"))
        excess = ordered[ordered > threshold] - threshold
        # An excess of rounding alone is a tie.
        excess = excess[excess > 1e-12 * max(1.0, abs(threshold))]
        if len(excess) < LEAST_EXCESSES // 2:
            raise AuditError(
                f"Pareto tail: {len(excess)} of {len(ordered)} null values differ from the "
                f"{quantile:.0%} quantile {threshold:.6g}: the null has no spread"
            )
        scale, shape = _fit(excess, least_shape)
        return ParetoTail(ordered, threshold, scale, shape, len(excess))

    def p(self, values: Floats) -> Floats:
        """p-values [...] of large `values` [...], never 0: (1 + b) / (1 + N) below the tail."""
        values = np.asarray(values, dtype=np.float64)
        above = len(self.null) - np.searchsorted(self.null, values, side="left")
        counted = (1 + above) / (1 + len(self.null))
        height = np.maximum(values - self.threshold, 0.0) / self.scale
        survival = np.maximum(1 + self.shape * height, 0.0) ** (-1 / self.shape)
        tail = (1 + self.excesses) / (1 + len(self.null)) * survival
        p: Floats = np.maximum(
            np.where(values > self.threshold, tail, counted), np.finfo(np.float64).tiny
        )
        return p


def _fit(excess: Floats, least_shape: float) -> tuple[float, float]:
    """Scale and shape >= least_shape > 0 of the largest likelihood, of excesses [n] > 0.

    Given the rate shape / scale, the likeliest shape is mean(log(1 + rate x)), which grows with the
    rate; so the likelihood is searched along the rate, from where the shape is the least allowed.
    """
    # What the prior takes of the mean log likelihood, for a shape larger by 1.
    doubt = 1 / (SHAPE_SPREAD * len(excess))
    scale = _scale(excess, least_shape)
    best = (_log_likelihood(excess, scale, least_shape), scale, least_shape)
    low, high = 0.0, 1 / float(excess.mean())
    while np.log1p(high * excess).mean() < least_shape:
        high *= 2
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if np.log1p(rate * excess).mean() < least_shape else (low, rate)
    grid = high * np.geomspace(1.0, _LARGEST_RATE, _RATES)
    for _ in range(_ZOOMS):
        shape = np.log1p(grid[:, None] * excess).mean(axis=1)
        at = int(np.argmax(-np.log(shape / grid) - shape - doubt * (shape - least_shape)))
        fitted = (float(shape[at] / grid[at]), float(shape[at]))
        likelihood = _log_likelihood(excess, *fitted) - doubt * (fitted[1] - least_shape)
        if likelihood > best[0]:
            best = (likelihood, *fitted)
        grid = np.geomspace(grid[max(at - 1, 0)], grid[min(at + 1, _RATES - 1)], _RATES)
    return best[1], max(best[2], least_shape)


def _log_likelihood(excess: Floats, scale: float, shape: float) -> float:
    """Mean over excesses."""
    return float(-np.log(scale) - (1 + 1 / shape) * np.log1p(shape * excess / scale).mean())


def _scale(excess: Floats, shape: float) -> float:
    """The scale of the largest likelihood at a given shape > 0."""
    low, high = 0.0, (1 + shape) * float(excess.max())
    for _ in range(60):
        scale = (low + high) / 2
        slope = ((1 + shape) * excess / (scale + shape * excess)).mean() - 1
        low, high = (scale, high) if slope > 0 else (low, scale)
    return (low + high) / 2
