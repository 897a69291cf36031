"""Structural similarity at several scales says how alike two volumes of a set are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.arrays import Bools, Floats
from fastgan.audit.evidence import Cohort
from fastgan.audit.judgement import Table
from fastgan.audit.statistics import bootstrap_interval
from fastgan.errors import AuditError

__all__ = ["ms_ssim", "similarity_table"]

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
PAIRS = 100
LEAST_PAIRS = 5
"""Fewer say nothing of a spread."""

Rng = np.random.Generator


def ms_ssim(a: Floats, b: Floats, value_range: float = 2.0) -> Floats:
    """Multi-scale structural similarity of pairs of volumes, 1 for equal ones.

    A normal window of 11 voxels and deviation 1.5, wholly inside the volume; scales are halved by
    averaging as long as the window fits, up to five, with the published weights over their sum.

    Args:
        a: [N, D, H, W]
        b: [N, D, H, W], paired with a.
        value_range: largest less smallest value possible.

    Returns:
        [N] float64.

    Raises:
        AuditError: shapes that differ, or an axis shorter than the window.

    Source: Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality
    assessment".

    >>> volumes = np.random.default_rng(0).random((1, 12, 12, 12))
    >>> float(ms_ssim(volumes, volumes)[0])
    1.0
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[1:]) < _WINDOW:
        raise AuditError(
            f"ms_ssim: needs pairs [N, D, H, W] of at least {_WINDOW} voxels an axis, "
            f"got {a.shape} and {b.shape}"
        )
    x, y = (torch.from_numpy(np.asarray(v, np.float64))[:, None] for v in (a, b))
    factors: list[tuple[Tensor, Tensor]] = []
    while min(x.shape[2:]) >= _WINDOW and len(factors) < len(_SCALE_WEIGHTS):
        factors.append(_factors(x, y, value_range))
        x, y = F.avg_pool3d(x, 2), F.avg_pool3d(y, 2)
    weight = torch.tensor(_SCALE_WEIGHTS[: len(factors)], dtype=torch.float64)
    weight = weight / weight.sum()
    # Contrast and structure at every scale, luminance at the coarsest only.
    terms = [structure for _, structure in factors[:-1]]
    terms.append(factors[-1][0])
    product = torch.ones(len(a), dtype=torch.float64)
    for term, power in zip(terms, weight, strict=True):
        product *= term.clamp(min=0) ** power
    return product.numpy()


def similarity_table(made: Cohort, patients: Cohort, classes: Sequence[str], rng: Rng) -> Table:
    """Similarity within each class: of pairs of generated volumes, and of pairs of patients.

    No volume is in two pairs, so pairs are independent; up to 100 a class and side.

    Args:
        made: generated volumes.
        patients: one volume each.
        classes: names of the labels.
        rng: random numbers.

    Cost: 15 products of the voxels with a matrix of an axis, a pair and scale.

    Source: Odena, Olah and Shlens 2017, "Conditional image synthesis with auxiliary classifier
    GANs", who compare classes by it.
    """
    sides = (made, patients)
    strata: list[tuple[str, list[Bools]]] = [("all", [np.ones(len(s), bool) for s in sides])]
    if made.labels is not None and patients.labels is not None:
        strata += [
            (name, [s.labels == k for s in sides if s.labels is not None])
            for k, name in enumerate(classes)
        ]
    rows = tuple(
        (name, *(cell for s, of in zip(sides, kept, strict=True) for cell in _pairs(s, of, rng)))
        for name, kept in strata
    )
    return Table(
        "Structural similarity of pairs within a class",
        ("class", "generated", "generated pairs", "patients", "pairs of patients"),
        rows,
        "MS-SSIM, 1 for equal volumes, mean [95 % interval]: generated pairs that are more alike "
        "than those of patients lack variety. Masks agree in their empty background, so theirs is "
        "high for patients, too. Context: no verdict turns on it.",
    )


def _pairs(cohort: Cohort, kept: Bools, rng: Rng) -> tuple[str, int]:
    """Mean similarity of random pairs of the kept volumes [N], with its interval; their number."""
    order = rng.permutation(np.flatnonzero(kept))
    count = min(len(order) // 2, PAIRS)
    if count < LEAST_PAIRS:
        return f"not available: needs {2 * LEAST_PAIRS} volumes, got {len(order)}", count
    first, second = order[:count], order[count : 2 * count]
    try:
        found = np.concatenate(
            [
                ms_ssim(cohort.values[first[i : i + 10]], cohort.values[second[i : i + 10]])
                for i in range(0, count, 10)
            ]
        )
    except AuditError as error:
        return f"not available: {error}", count
    low, high = bootstrap_interval(lambda drawn: float(found[drawn].mean()), np.arange(count), rng)
    return f"{found.mean():.3f} [{low:.3f}, {min(high, 1.0):.3f}]", count


def _factors(x: Tensor, y: Tensor, value_range: float) -> tuple[Tensor, Tensor]:
    """Mean similarity, and mean of its contrast-structure factor alone, [N] each."""
    c1, c2 = (_K1 * value_range) ** 2, (_K2 * value_range) ** 2
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    spread_x = _smoothed(x * x) - mean_x**2
    spread_y = _smoothed(y * y) - mean_y**2
    shared = _smoothed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * shared + c2) / (spread_x + spread_y + c2)
    return (luminance * structure).flatten(1).mean(1), structure.flatten(1).mean(1)


def _smoothed(x: Tensor) -> Tensor:
    """[N, 1, D, H, W] under the window, which is a product of three one-dimensional ones."""
    for _ in range(3):
        # Every axis is the last once; a product with a matrix is much faster than a convolution.
        x = (x @ _window(x.shape[-1])).movedim(-1, 2)
    return x


def _window(size: int) -> Tensor:
    """[size, size - 10] of which column i is the window that begins at i."""
    steps = torch.arange(_WINDOW, dtype=torch.float64) - (_WINDOW - 1) / 2
    weights = torch.exp(-(steps**2) / (2 * _SIGMA**2))
    out = torch.zeros(size, size - _WINDOW + 1, dtype=torch.float64)
    for i in range(out.shape[1]):
        out[i : i + _WINDOW, i] = weights / weights.sum()
    return out
