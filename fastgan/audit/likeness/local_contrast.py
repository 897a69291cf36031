"""Volumes are compared here by what does not change with their brightness: local contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats

__all__ = ["SIDE", "ContrastSpace", "local_contrast"]

# Voxels along an axis, at most, of a map, and of the volume whose contrast it is.
SIDE, _FINE = 12, 16
# Neighbourhood whose mean is taken away and whose deviation divides, in voxels.
_REACH = 1.5
# Share of a volume's own deviation below which its contrast is noise.
_FLOOR = 0.1
# Directions in which volumes differ most (where the body lies, how large it is) say little of who
# it is: as many are shrunk to the size of the next, and fewer of few volumes.
_LEADING, _VOLUMES_EACH = 20, 8


def local_contrast(values: Floats) -> torch.Tensor:
    """Contrast maps [N, d, h, w] of volumes [N, D, H, W], of at most 12 voxels an axis.

    (x - m) / (s + 0.1 S) of the mean m and deviation s around each voxel and the volume's own
    deviation S. It is the same after any gain and offset, changes its sign with that of the
    contrast, and hardly changes under a gamma curve, which is straight nearly everywhere.
    """
    x = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[:, None]
    x = _averaged(x, _FINE)
    whole = x.flatten(1).std(dim=1).view(-1, 1, 1, 1, 1)
    rest = x - smoothed(x, _REACH)
    local = torch.sqrt(smoothed(rest * rest, _REACH))
    return _averaged(rest / (local + _FLOOR * whole + 1e-6), SIDE)[:, 0]


def _averaged(x: torch.Tensor, most: int) -> torch.Tensor:
    """[N, 1, d, h, w] of at most so many voxels along an axis."""
    depth, height, width = (min(n, most) for n in x.shape[2:])
    shape = depth, height, width
    return x if shape == tuple(x.shape[2:]) else F.adaptive_avg_pool3d(x, shape)


def smoothed(x: torch.Tensor, deviation: float) -> torch.Tensor:
    """[N, C, d, h, w] convolved with a Gaussian along each axis; the border goes on outside."""
    reach = int(np.ceil(2.5 * deviation))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weight = torch.exp(-(at**2) / (2 * deviation**2))
    weight = weight / weight.sum()
    for axis in range(2, 5):
        n = x.shape[axis]
        # One matrix an axis: faster than a convolution on volumes so small.
        place = torch.clamp(torch.arange(n)[:, None] + at.long(), 0, n - 1)
        matrix = torch.zeros(n, n).scatter_add_(1, place, weight.expand(n, -1))
        x = torch.movedim(torch.tensordot(x, matrix, dims=([axis], [1])), -1, axis)
    return x


@dataclass(frozen=True)
class ContrastSpace:
    """What maps have in common is taken away, so that two of different people are unlike.

    Deviations from the mean map, in units of each voxel's own deviation; the leading directions of
    what is left are shrunk.
    """

    mean: torch.Tensor
    """[d, h, w]"""
    spread: torch.Tensor
    """[d, h, w]"""
    directions: torch.Tensor
    """[k, d h w] of unit length."""
    taken: torch.Tensor
    """[k] share that is taken of each."""

    @staticmethod
    def fit(maps: torch.Tensor) -> ContrastSpace:
        """From the maps [N, d, h, w] of all real volumes, of both sides of the split."""
        mean, spread = maps.mean(dim=0), maps.std(dim=0, correction=0)
        spread = spread + 0.1 * maps.std() + 1e-6
        rest = ((maps - mean) / spread).flatten(1)
        count = max(0, min(_LEADING, len(rest) // _VOLUMES_EACH, rest.shape[1] - 2))
        if not count:
            return ContrastSpace(mean, spread, rest[:0], rest[:0, 0])
        # Through the products of volumes or of voxels, whichever are fewer.
        if len(rest) <= rest.shape[1]:
            power, left = torch.linalg.eigh(rest @ rest.T)
            directions = (left[:, -count:].T @ rest) / torch.sqrt(power[-count:, None] + 1e-12)
        else:
            power, right = torch.linalg.eigh(rest.T @ rest)
            directions = right[:, -count:].T
        size = power[-count:].clamp(min=1e-12)
        taken = 1 - torch.sqrt(power[-count - 1].clamp(min=0) / size)
        return ContrastSpace(mean, spread, directions.contiguous(), taken)

    def place(self, maps: torch.Tensor) -> torch.Tensor:
        """Vectors [N, d h w] of maps [N, d, h, w]; their cosines are how alike two are."""
        rest = ((maps - self.mean) / self.spread).flatten(1)
        return self.shrunk(rest)

    def shrunk(self, rest: torch.Tensor) -> torch.Tensor:
        """Vectors [N, d h w] with less of the leading directions."""
        out: torch.Tensor = rest - ((rest @ self.directions.T) * self.taken) @ self.directions
        return out
