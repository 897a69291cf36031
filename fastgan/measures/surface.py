"""The area of a level surface is found by marching tetrahedra."""

from __future__ import annotations

import itertools

import numpy as np

from fastgan.arrays import Bools, Floats

__all__ = ["level_area"]

# The six tetrahedra along the diagonal of a cell, one per order in which the axes are walked; they
# meet face to face across cells, so the surface is closed.
_TETRAHEDRA = np.array(
    [
        np.cumsum([(0, 0, 0), *np.eye(3, dtype=int)[list(order)]], axis=0)
        for order in itertools.permutations(range(3))
    ]
)  # [6, 4, 3]


def level_area(values: Floats, spacing: tuple[float, float, float], level: float = 0.5) -> float:
    """Area of the surface where the linearly interpolated `values` equal `level`.

    Args:
        values: [D, H, W], voxel centres; the outside counts as 0.
        spacing: millimetres per voxel of D, H, W.
        level: above 0.

    Returns:
        Square millimetres. Planes are exact; a ball of 5 voxels radius is 1 % off.

    Cost: about 1 ms per 1,000 cells that the surface passes.

    Source: Doi and Koide 1991, "An efficient method of triangulating equi-valued surfaces by using
    tetrahedral cells".
    """
    padded = np.pad(np.asarray(values, dtype=np.float64), 1)
    corner = np.array(list(itertools.product((0, 1), repeat=3)))
    cell = np.stack(
        [
            padded[tuple(slice(c, n - 1 + c) for c, n in zip(at, padded.shape, strict=True))]
            for at in corner
        ]
    )
    crossed = (cell.min(axis=0) < level) & (cell.max(axis=0) >= level)
    cell = cell[:, crossed]
    number = _TETRAHEDRA @ np.array([4, 2, 1])
    height = cell[number].transpose(2, 0, 1).reshape(-1, 4)
    place = np.broadcast_to(_TETRAHEDRA * np.asarray(spacing), (cell.shape[1], 6, 4, 3))
    place = place.reshape(-1, 4, 3)
    order = np.argsort(-height, axis=1, kind="stable")
    height = np.take_along_axis(height, order, axis=1)
    place = np.take_along_axis(place, order[:, :, None], axis=1)
    inside = (height >= level).sum(axis=1)

    def crossing(chosen: Bools, a: int, b: int) -> Floats:
        high, low = height[chosen, a], height[chosen, b]
        share = ((high - level) / (high - low))[:, None]
        point: Floats = place[chosen, a] * (1 - share) + place[chosen, b] * share
        return point

    area = 0.0
    for count, lone, rest in ((1, 0, (1, 2, 3)), (3, 3, (0, 1, 2))):
        chosen = inside == count
        area += _triangles(*(crossing(chosen, min(lone, k), max(lone, k)) for k in rest))
    chosen = inside == 2
    a, b, c, d = (crossing(chosen, *edge) for edge in ((0, 2), (0, 3), (1, 3), (1, 2)))
    return area + _triangles(a, b, c) + _triangles(a, c, d)


def _triangles(a: Floats, b: Floats, c: Floats) -> float:
    """Total area of triangles with corners [T, 3]."""
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)
