"""Voxel grids in the world: orientation codes, the canonical order and the exact way back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

__all__ = [
    "Orientation",
    "from_quaternion",
    "orientation_of",
    "quaternion",
    "spacing_of",
    "to_canonical",
    "to_source",
]

CODES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Orientation:
    """How a source grid's axes lie.

    Attributes:
        axes: for right, anterior, superior in turn, the source axis that runs along it.
        flipped: for the same three, whether the source axis runs the other way.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @property
    def codes(self) -> str:
        """Direction each source axis increases in, as "RAS" or "LPS"."""
        letters = [""] * 3
        for world, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            letters[axis] = CODES[world][0 if flip else 1]
        return "".join(letters)


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Millimetres per voxel along each array axis of a [4, 4] affine."""
    norms = np.sqrt((np.asarray(affine, np.float64)[:3, :3] ** 2).sum(0))
    return float(norms[0]), float(norms[1]), float(norms[2])


def orientation_of(affine: np.ndarray) -> Orientation:
    """The nearest axis-aligned orientation of a regular [4, 4] affine."""
    direction = np.asarray(affine, np.float64)[:3, :3] / np.array(spacing_of(affine))
    # Of the six assignments, the one that keeps most of the directions; ties take the first.
    axes = max(
        permutations(range(3)),
        key=lambda p: round(sum(abs(direction[w, a]) for w, a in enumerate(p)), 9),
    )
    flipped = tuple(bool(direction[w, a] < 0) for w, a in enumerate(axes))
    return Orientation(axes, flipped)  # type: ignore[arg-type]


def to_canonical(
    array: np.ndarray, affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Orientation]:
    """Reorder a [D, H, W] array to right, anterior, superior by transposing and flipping only.

    Returns:
        (array [D, H, W], affine [4, 4] float64 of the same world positions, source orientation).
    """
    orientation = orientation_of(affine)
    moved = array.transpose(orientation.axes)
    change = np.zeros((4, 4))
    change[3, 3] = 1.0
    for world, (axis, flip) in enumerate(zip(orientation.axes, orientation.flipped, strict=True)):
        change[axis, world] = -1.0 if flip else 1.0
        change[axis, 3] = moved.shape[world] - 1.0 if flip else 0.0
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flipped)
    return np.ascontiguousarray(moved[steps]), np.asarray(affine, np.float64) @ change, orientation


def to_source(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Undo `to_canonical`, bit for bit, for any array on the canonical grid."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flipped)
    return np.ascontiguousarray(array[steps].transpose(np.argsort(orientation.axes)))


def from_quaternion(bcd: tuple[float, float, float], sizes: np.ndarray, qfac: float) -> np.ndarray:
    """[4, 4] affine without translation of a NIfTI quaternion, voxel sizes in mm and qfac."""
    b, c, d = bcd
    a = np.sqrt(max(1.0 - (b * b + c * c + d * d), 0.0))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes * (1.0, 1.0, qfac)
    return affine


def quaternion(affine: np.ndarray) -> tuple[tuple[float, float, float], float]:
    """((b, c, d), qfac) of the rotation nearest to a [4, 4] affine's directions."""
    direction = affine[:3, :3] / np.array(spacing_of(affine))
    left, _, right = np.linalg.svd(direction)
    rotation = left @ right
    qfac = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    rotation = rotation * (1.0, 1.0, qfac)
    # Eigenvector of the largest eigenvalue (Bar-Itzhack 2000): stable for every angle.
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    matrix = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    b, c, d, a = np.linalg.eigh(matrix)[1][:, -1]
    sign = -1.0 if a < 0 else 1.0
    return (float(sign * b), float(sign * c), float(sign * d)), qfac
