"""Do the geometric augmentations obey the laws of their group, on the volumes at hand?

A turn and its opposite, a zoom and its inverse, two turns one after another and their sum: each has
to agree within what interpolation costs. A wrong sign, axis or voxel size breaks a law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastgan.arrays import Bools, Floats
from fastgan.audit.labels.alterations import interpolated
from fastgan.audit.rules import limit
from fastgan.data.augment import apply

__all__ = ["LAWS", "Law", "check_laws"]

Transform = Callable[[Floats, dict[str, Any]], Floats]

DEGREES, ZOOM = 10.0, 1.1
# In errors of half a voxel there and back along every axis, the worst that two linear
# interpolations do. A law with a fault is several times above it.
MOST = limit("labels.laws.most")
LAWS = (
    "mirrored twice is unchanged",
    "turned and turned back is unchanged",
    "two turns are one turn by their sum",
    "zoomed and zoomed back is unchanged",
    "two zooms are one by their product",
)


@dataclass(frozen=True)
class Law:
    """One law on the volumes."""

    name: str
    error: float
    """Root mean square difference, over that of half a voxel there and back."""

    @property
    def holds(self) -> bool:
        """Whether interpolation explains the difference."""
        return self.error <= MOST


def check_laws(
    values: Floats, spacing: tuple[float, float, float], transform: Transform | None = None
) -> list[Law]:
    """Measure every law of LAWS.

    Args:
        values: [N, D, H, W] in [-1, 1].
        spacing: mm along D, H, W.
        transform: (volumes, parameters of `data.augment`) -> volumes; None for `data.augment`
            itself. Controls plant a faulty one.
    """
    do = transform or _augmented(spacing)
    half = np.full((len(values), 3), 0.5)
    inside = _inside(values.shape[1:], spacing)
    unit = _difference(interpolated(interpolated(values, half), -half), values, inside)
    pairs: list[tuple[Floats, Floats]] = [
        (do(do(values, {"flip": True}), {"flip": True}), values),
        *_turns(do, values),
        (do(do(values, {"scale": ZOOM}), {"scale": 1.0 / ZOOM}), values),
        (
            do(do(values, {"scale": ZOOM}), {"scale": ZOOM}),
            do(values, {"scale": ZOOM**2}),
        ),
    ]
    errors = [_difference(a, b, inside) for a, b in pairs]
    grouped = [errors[0], max(errors[1:4]), max(errors[4:7]), errors[7], errors[8]]
    # Constant volumes obey everything.
    return [Law(name, e / unit if unit else e) for name, e in zip(LAWS, grouped, strict=True)]


def _turns(do: Transform, values: Floats) -> list[tuple[Floats, Floats]]:
    """Three inverses, one per axis, then three compositions."""
    back, both = [], []
    for axis in range(3):
        there, opposite, double = [0.0] * 3, [0.0] * 3, [0.0] * 3
        there[axis], opposite[axis], double[axis] = DEGREES, -DEGREES, 2 * DEGREES
        once = do(values, {"rotate": there})
        back.append((do(once, {"rotate": opposite}), values))
        both.append((do(once, {"rotate": there}), do(values, {"rotate": double})))
    return back + both


def _augmented(spacing: tuple[float, float, float]) -> Transform:
    def do(values: Floats, parameters: dict[str, Any]) -> Floats:
        volumes = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[:, None]
        return apply(volumes, [parameters] * len(values), spacing)[:, 0].numpy()

    return do


def _inside(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> Bools:
    """[D, H, W] a ball about the centre that no law reads beyond the edges for."""
    ends = [(n - 1) / 2 for n in shape]
    axes = [(np.arange(n) - end) * s for n, end, s in zip(shape, ends, spacing, strict=True)]
    squares = [g**2 for g in np.meshgrid(*axes, indexing="ij")]
    radius = min(end * s for end, s in zip(ends, spacing, strict=True)) / ZOOM**2
    ball: Bools = squares[0] + squares[1] + squares[2] <= (0.9 * radius) ** 2
    return ball


def _difference(a: Floats, b: Floats, inside: Bools) -> float:
    """Root mean square over the voxels inside; 0 where there are none."""
    gap = (a - b)[:, inside]
    return float(np.sqrt(np.square(gap, dtype=np.float64).mean())) if gap.size else 0.0
