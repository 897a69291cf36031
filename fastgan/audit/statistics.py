"""The statistics of the judgements: the subject is the unit, and no p-value is ever 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["holm", "permutation_p"]

Floats = NDArray[np.floating]


def permutation_p(observed: float, null: Sequence[float] | Floats) -> float:
    """p-value of a large `observed` among `null` values: (1 + b) / (1 + B), ties count against it.

    >>> permutation_p(3.0, [1.0, 2.0, 3.0])
    0.5
    """
    null = np.asarray(null, dtype=np.float64)
    return float((1 + np.count_nonzero(null >= observed)) / (1 + len(null)))


def holm(p: Sequence[float] | Floats) -> Floats:
    """Holm's adjusted p-values, in the order given; rejecting those <= alpha keeps the family-wise
    error at alpha under any dependence.

    Raises:
        ValueError: a value that is not in [0, 1].

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"holm: p-values must be in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return out
