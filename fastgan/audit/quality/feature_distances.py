"""Two sets of feature vectors are compared: how far apart they are, how one covers the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastgan.arrays import Column, Floats, Integers
from fastgan.errors import AuditError
from fastgan.ops import nearest

__all__ = ["NEIGHBOURS", "Coverage", "KernelDistance", "checked", "coverage", "frechet_distance"]

NEIGHBOURS = 5


def frechet_distance(x: Floats, y: Floats) -> float:
    """Frechet distance of the normal distributions with the moments of x [N, F] and y [M, F].

    |mean_x - mean_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), covariances over N - 1. It is biased
    upwards, the more the fewer volumes and the more features: compare it with that of two sets of
    patients of the same sizes, never with one from elsewhere.

    Raises:
        AuditError: fewer than 2 vectors, other numbers of features, or values not finite.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule"; Dowson and Landau
    1982.

    >>> a, b = np.array([[1.0, 2.0]] * 3), np.array([[2.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    >>> round(frechet_distance(a, b), 4)
    0.4444
    """
    a, b = checked("frechet_distance", x, y)
    root = _root(torch.cov(a.T).reshape(a.shape[1], -1))
    covariance = torch.cov(b.T).reshape(b.shape[1], -1)
    # The eigenvalues of S_x S_y are those of the symmetric S_x^(1/2) S_y S_x^(1/2).
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return float(gap + root.square().sum() + covariance.trace() - 2 * cross)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


class KernelDistance:
    """Unbiased squared distance in the space of the kernel (x y / F + 1)^3, by resampling weights.

    Pairs of one subject are left out, so the expectation between two sets of one distribution is 0
    whatever the number of volumes per subject; the estimate may be negative.

    Args:
        x: [N, F] features.
        y: [M, F] features.
        x_subjects: [N] who each is of.
        y_subjects: [M]

    Raises:
        AuditError: as `frechet_distance`; a side of one subject.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs".

    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> round(KernelDistance(x, x + 9, np.arange(3), np.arange(3)).value() / 1e6, 1)
    1.6
    """

    def __init__(self, x: Floats, y: Floats, x_subjects: Column, y_subjects: Column) -> None:
        a, b = (side.numpy() for side in checked("kernel distance", x, y))
        self._xx, self._xx_pairs = _within(a, x_subjects)
        self._yy, self._yy_pairs = _within(b, y_subjects)
        self._xy = _kernel(a, b)

    def value(
        self, x_weight: Floats | Integers | None = None, y_weight: Floats | Integers | None = None
    ) -> float:
        """The distance with volumes counted as often as the weights [N] and [M] say."""
        w = np.ones(len(self._xx)) if x_weight is None else np.asarray(x_weight, np.float64)
        v = np.ones(len(self._yy)) if y_weight is None else np.asarray(y_weight, np.float64)
        xx = (w @ self._xx @ w) / (w @ self._xx_pairs @ w)
        yy = (v @ self._yy @ v) / (v @ self._yy_pairs @ v)
        return float(xx + yy - 2 * (w @ self._xy @ v) / (w.sum() * v.sum()))

    def resampled(self, x_draws: Iterable[Integers], y_draws: Iterable[Integers]) -> Floats:
        """The distance of each pair of drawn sets, given by positions, some more than once."""
        n, m = len(self._xx), len(self._yy)
        return np.array(
            [
                self.value(np.bincount(a, minlength=n), np.bincount(b, minlength=m))
                for a, b in zip(x_draws, y_draws, strict=True)
            ]
        )


def _kernel(a: Floats, b: Floats) -> Floats:
    kernel: Floats = (a @ b.T / a.shape[1] + 1.0) ** 3
    return kernel


def _within(rows: Floats, subjects: Column) -> tuple[Floats, Floats]:
    """Kernel between volumes of different subjects, 0 within one; and 1 or 0 likewise."""
    who = np.unique(subjects, return_inverse=True)[1]
    pairs = (who[:, None] != who[None]).astype(np.float64)
    if not pairs.any():
        raise AuditError("kernel distance: needs at least 2 subjects on each side")
    return _kernel(rows, rows) * pairs, pairs


@dataclass(frozen=True)
class Coverage:
    """How generated volumes lie among patients. All but density are at most 1."""

    precision: float
    """Share of generated volumes within reach of a patient: the 5th neighbour among patients."""
    recall: float
    """Share of patients within reach of a generated volume."""
    density: float
    """How many patients reach a generated volume, over 5; about 1 for the same distribution."""
    coverage: float
    """Share of patients with a generated volume within their reach."""


def coverage(real: Floats, made: Floats) -> Coverage:
    """Precision and recall, density and coverage of made [M, F] against real [N, F].

    Raises:
        AuditError: as `frechet_distance`; 5 vectors or fewer.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric"; Naeem et al. 2020,
    "Reliable fidelity and diversity metrics".
    """
    a, b = checked("coverage", real, made)
    if min(len(a), len(b)) <= NEIGHBOURS:
        raise AuditError(f"coverage: needs more than 5 volumes, got {len(a)} and {len(b)}")
    # The first neighbour of every vector is itself.
    reach_a, reach_b = (nearest(side, side, NEIGHBOURS + 1)[0][:, -1] for side in (a, b))
    distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    by_real, by_made = distance <= reach_a[:, None], distance <= reach_b[None]
    return Coverage(
        float(by_real.any(0).double().mean()),
        float(by_made.any(1).double().mean()),
        float(by_real.double().sum(0).mean() / NEIGHBOURS),
        float(by_real.any(1).double().mean()),
    )


def checked(what: str, x: Floats, y: Floats) -> tuple[Tensor, Tensor]:
    """The sets [N, F] and [M, F] as float64; `what` is computed of them.

    Raises:
        AuditError: fewer than 2 vectors, other numbers of features, or values not finite.
    """
    a, b = (torch.from_numpy(np.array(side, np.float64)) for side in (x, y))
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise AuditError(f"{what}: features must be [N, F] and [M, F], got {x.shape} and {y.shape}")
    if min(len(a), len(b)) < 2 or not a.shape[1]:
        raise AuditError(f"{what}: needs 2 vectors and 1 feature, got {x.shape} and {y.shape}")
    if not (a.isfinite().all() and b.isfinite().all()):
        raise AuditError(f"{what}: features hold NaN or infinity")
    return a, b
