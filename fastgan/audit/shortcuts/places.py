"""Corners, border and background: places of a volume where the label should not show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import Evidence
from fastgan.errors import AuditError
from fastgan.measures.descriptors import block_values, size_of

__all__ = [
    "EDGES",
    "Region",
    "corner_boxes",
    "corner_steps",
    "edges_in_corners",
    "regions",
    "size_strata",
    "varied_columns",
    "without_size",
]

EDGES = "edges in corners"
"""Name of the region of all corners by their steps."""
_AIR = -0.9
CORNER = 5
"""Voxels along each side of a corner that is looked at by its steps."""


@dataclass(frozen=True)
class Region:
    """A part of the volume and its features."""

    name: str
    describe: Callable[[Floats], Floats]
    """Volumes [N, D, H, W] -> features [N, F]."""
    where: Bools
    """[D, H, W] its voxels."""


def regions(evidence: Evidence) -> list[Region]:
    """Corners, border and, where there is any, background.

    Raises:
        AuditError: an axis of fewer than 8 voxels.
    """
    values = evidence.training.values
    if min(values.shape[1:]) < 8:
        raise AuditError(f"needs volumes of at least 8 voxels a side, got {values.shape[1:]}")
    grid = np.indices((8, 8, 8))
    outermost = (grid == 0) | (grid == 7)
    corner, border = outermost.all(axis=0).ravel(), outermost.any(axis=0).ravel()
    side = [
        np.searchsorted(np.arange(8) * n // 8, np.arange(n), "right") - 1 for n in values.shape[1:]
    ]
    within = np.stack(np.meshgrid(*[(s == 0) | (s == 7) for s in side], indexing="ij"))
    found = [
        Region(
            "corners",
            lambda v: block_values(v, 8)[:, np.tile(corner, 2)],
            np.asarray(within.all(axis=0)),
        ),
        Region(
            "border",
            lambda v: block_values(v, 8)[:, np.tile(border, 2)],
            np.asarray(within.any(axis=0)),
        ),
    ]
    if evidence.modality == "mask":
        empty = (values > _AIR).mean(axis=0) < 0.01
    else:
        empty = values.mean(axis=0, dtype=np.float64) < _AIR
    if empty.mean() >= 0.01 and np.abs(np.diff(values[:, empty], axis=0)).max(initial=0) > 0:
        # Outside the background every volume is made equal, so that nothing else is described.
        found.append(
            Region("background", lambda v: block_values(np.where(empty, v, -1.0), 4), empty)
        )
    return found


def corner_steps(shape: tuple[int, ...]) -> list[Region]:
    """The eight corners by the steps between neighbouring voxels, where a small mark has edges.

    Block means of a corner see a mark only where the texture around it is even.
    """
    out = []
    for at in corner_boxes(shape, [min(CORNER, n // 2) for n in shape]):
        place = ", ".join(str(s.start and s.stop - 1) for s in at)
        where = np.zeros(shape, dtype=bool)
        where[at] = True
        out.append(Region(f"corner ({place})", partial(_steps, at), where))
    return out


def edges_in_corners(shape: tuple[int, ...]) -> Region:
    """All corners as one region, by their steps.

    A box of three voxels, or an eighth of the axis, and one more: as much as bodies leave free.
    """
    boxes = corner_boxes(shape, [min(max(3, n // 8) + 1, max(3, n // 3)) for n in shape])
    where = np.zeros(shape, dtype=bool)
    for at in boxes:
        where[at] = True

    def describe(values: Floats) -> Floats:
        return np.concatenate([_steps(at, values) for at in boxes], axis=1)

    return Region(EDGES, describe, where)


def corner_boxes(shape: tuple[int, ...], sides: list[int]) -> list[tuple[slice, ...]]:
    """The eight corners of so many voxels along each axis."""
    return [
        tuple(
            slice(n - side, n) if last else slice(0, side)
            for n, side, last in zip(shape, sides, corner, strict=True)
        )
        for corner in np.ndindex(2, 2, 2)
    ]


def _steps(at: tuple[slice, ...], values: Floats) -> Floats:
    """[N, F] differences of neighbours along each axis within a box."""
    box = values[(slice(None), *at)]
    steps = [np.diff(box, axis=axis).reshape(len(box), -1) for axis in (1, 2, 3)]
    return np.concatenate(steps, axis=1)


def size_strata(values: Floats) -> Integers:
    """[N] fifths of masks' size: sizes explain labels, and are no shortcut."""
    size = size_of(values)
    out: Integers = np.searchsorted(np.quantile(size, [0.2, 0.4, 0.6, 0.8]), size)
    return out


def without_size(features: Floats, sizes: Floats) -> Floats:
    """Features [N, F] less what a cubic in the logarithm of a mask's size [N] explains of them."""
    size = np.log(sizes + 1e-4)
    size = (size - size.mean()) / max(float(size.std()), 1e-6)
    powers = np.stack([np.ones_like(size), size, size**2, size**3], axis=1)
    explained, *_ = np.linalg.lstsq(powers, features, rcond=None)
    out: Floats = features - powers @ explained
    return out


def varied_columns(features: Floats) -> Bools:
    """[F] in which of [N, F] a fiftieth of the volumes, and ten, differ from the median.

    A corner that one lesion reaches says something of that one and nothing of a class.
    """
    apart = np.abs(features - np.median(features, axis=0)) > 1e-3
    out: Bools = apart.sum(axis=0) >= max(10, 0.02 * len(features))
    return out
