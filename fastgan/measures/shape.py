"""Soft masks have a size and a form: volume, surface against volume, elongation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats
from fastgan.errors import AuditError
from fastgan.measures.surface import level_area

__all__ = ["ShapeStatistics", "body", "shape_statistics", "soft_ellipsoids"]


@dataclass(frozen=True)
class ShapeStatistics:
    """One value per mask, float64. An empty mask has volume 0 and NaN elsewhere."""

    volume: Floats
    """[N] cubic millimetres."""
    surface_ratio: Floats
    """[N] surface / volume^(2/3); the smooth ball has 4.836, every other body more."""
    elongation: Floats
    """[N] sqrt(second / first principal variance), 1 for a ball, 0 for a needle (IBSI Q3CK)."""


def body(masks: Floats) -> Floats:
    """What of soft masks counts as body: clip(2 m - 1/2, 0, 1), the same shape.

    The mean over the level sets between 1/4 and 3/4: faint background counts for nothing, and
    partial voxels count in part.
    """
    share: Floats = np.clip(2.0 * np.asarray(masks) - 0.5, 0.0, 1.0)
    return share


def shape_statistics(masks: Floats, spacing: tuple[float, float, float]) -> ShapeStatistics:
    """Shape of soft masks.

    The surface is that of the level 1/2. Volume and principal variances are those of `body`.

    Args:
        masks: [N, D, H, W] in [0, 1].
        spacing: millimetres per voxel of D, H, W.

    Raises:
        AuditError: not four-dimensional, an axis of fewer than 2 voxels, or values that are not
            finite.

    >>> ball = soft_ellipsoids(np.full(1, 4000.0), (32, 32, 32), (1.0,) * 3, aspect=np.ones((1, 3)))
    >>> float(shape_statistics(ball, (1.0,) * 3).volume.round(-2)[0])
    4000.0
    """
    masks = np.asarray(masks)
    if masks.ndim != 4 or min(masks.shape[1:]) < 2:
        raise AuditError(
            f"shape_statistics: masks must be [N, D, H, W], axes >= 2, got {masks.shape}"
        )
    if not np.isfinite(masks).all():
        raise AuditError("shape_statistics: masks hold NaN or infinity")
    rows = [_one(mask, spacing) for mask in masks]
    volume, surface, elongation = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return ShapeStatistics(volume, surface, elongation)


def _one(mask: Floats, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
    level = body(mask.astype(np.float64))
    voxel = float(np.prod(spacing))
    volume = level.sum() * voxel
    if volume == 0.0:
        return 0.0, np.nan, np.nan
    surface = level_area(mask, spacing)
    where = np.nonzero(level)
    weight = level[where]
    points = np.stack(where, axis=1) * np.asarray(spacing)
    points = points - np.average(points, axis=0, weights=weight)
    # A voxel is a box, not a point: its own variance keeps flat bodies from having none.
    spread = (weight[:, None] * points).T @ points / weight.sum() + np.diag(np.square(spacing)) / 12
    variance = np.linalg.eigvalsh(spread)
    return volume, surface / volume ** (2 / 3), float(np.sqrt(variance[1] / variance[2]))


def soft_ellipsoids(
    volume: Floats,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    aspect: Floats | None = None,
    rng: np.random.Generator | None = None,
) -> Floats:
    """Centred soft-edged ellipsoids of given volumes: what a generator of sizes alone would draw.

    Args:
        volume: [N] cubic millimetres.
        shape: voxels of D, H, W.
        spacing: millimetres per voxel.
        aspect: [N, 3] relative half axes.
        rng: without `aspect`, draws it (log-normal, sd 0.2) and a direction.

    Returns:
        [N, D, H, W] float32 in [0, 1]; the edge is a ramp of two voxels.
    """
    count = len(volume)
    turn = np.broadcast_to(np.eye(3), (count, 3, 3))
    if aspect is None:
        if rng is None:
            raise AuditError("soft_ellipsoids: give aspect, or rng to draw it")
        aspect = np.exp(0.2 * rng.standard_normal((count, 3)))
        turn, _ = np.linalg.qr(rng.standard_normal((count, 3, 3)))
    axes = aspect * np.cbrt(volume * 3 / (4 * np.pi) / aspect.prod(axis=1))[:, None]
    grid = np.stack(
        np.meshgrid(
            *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)],
            indexing="ij",
        ),
        axis=-1,
    )
    edge = 2 * float(np.mean(spacing))
    out = np.empty((count, *shape), dtype=np.float32)
    for i in range(count):
        radius = np.linalg.norm((grid @ turn[i]) / axes[i], axis=-1)
        # Distance to the surface, exact for a ball and close for mild aspects.
        out[i] = np.clip(0.5 + (1 - radius) * np.cbrt(axes[i].prod()) / edge, 0.0, 1.0)
    return out
