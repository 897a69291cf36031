"""Volumes are compared here by what does not change with their brightness: local contrast."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats, Integers
from fastgan.audit.likeness.moves import MIRRORS

__all__ = ["SIDE", "ContrastSpace", "local_contrast", "pooled", "rotation", "turned"]

# Voxels along an axis, at most, of a map, and of the rows that are compared.
_FINE, SIDE = 16, 12
# Neighbourhood whose mean is taken away and whose deviation divides, in voxels.
_REACH = 1.5
# Share of a volume's own deviation below which its contrast is noise.
_FLOOR = 0.1
# What volumes have in common in any pose (where the body ends, how large it is) says little of who
# it is: that many directions are whitened, fewer of few volumes, as they would be those volumes.
_DIRECTIONS, _OF_A_VOLUME = 300, 1.5
# Share of the deviation of all values that is added to that of each.
_LEAST_SPREAD = 0.1
# Variance, in that of a voxel, that a whitened direction keeps.
_KEPT = 0.3
# Volumes that the space is fitted to, as they lie and turned and zoomed three times at random.
_MOST_FITTED, _AGAIN = 2000, 3
_TURNED, _ZOOMED = 15.0, 0.1


def local_contrast(values: Floats) -> torch.Tensor:
    """Contrast maps [N, d, h, w] of volumes [N, D, H, W], of at most 16 voxels an axis.

    (x - m) / (s + 0.1 S) of the mean m and deviation s around each voxel and the volume's own
    deviation S. It is the same after any gain and offset, changes its sign with that of the
    contrast, and hardly changes under a gamma curve, which is straight nearly everywhere.
    """
    x = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[:, None]
    x = _averaged(x, _FINE)
    whole = x.flatten(1).std(dim=1).view(-1, 1, 1, 1, 1)
    rest = x - smoothed(x, _REACH)
    local = torch.sqrt(smoothed(rest * rest, _REACH))
    return (rest / (local + _FLOOR * whole + 1e-6))[:, 0]


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """Rows [N, F] of maps [N, d, h, w], averaged to at most 12 voxels an axis."""
    return _averaged(maps[:, None], SIDE).flatten(1)


def turned(maps: torch.Tensor, pose: Floats) -> torch.Tensor:
    """Maps [N, d, h, w] read at pose @ x, x in voxels from the middle, the border going on."""
    size = torch.tensor([float(n) for n in maps.shape[1:]])
    # In units of half an axis, where grid_sample works, last axis first.
    scale = torch.diag(1 / size) @ torch.from_numpy(pose.astype(np.float32)) @ torch.diag(size)
    matrix = torch.zeros(1, 3, 4)
    matrix[0, :, :3] = scale.flip(0, 1)
    place = F.affine_grid(matrix, [1, 1, *maps.shape[1:]], align_corners=False)
    # All maps are channels of one volume, as they are read at the same places.
    out: torch.Tensor = F.grid_sample(
        maps[None], place, padding_mode="border", align_corners=False
    )[0]
    return out


def rotation(degrees: Floats) -> Floats:
    """[3, 3] turns in the planes of axes 0 and 1, 0 and 2, 1 and 2, one after the other."""
    out = np.eye(3)
    for plane, turn in zip(itertools.combinations(range(3), 2), np.radians(degrees), strict=True):
        one = np.eye(3)
        one[np.ix_(plane, plane)] = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        out = out @ one
    return out


def _averaged(x: torch.Tensor, most: int) -> torch.Tensor:
    """[N, 1, d, h, w] of at most so many voxels along an axis."""
    for axis, n in enumerate(x.shape[2:], 2):
        if n > most:
            x = _along(x, axis, F.adaptive_avg_pool1d(torch.eye(n), most).T)
    return x


def _along(x: torch.Tensor, axis: int, matrix: torch.Tensor) -> torch.Tensor:
    """Times [m, n] along an axis of n: on volumes so small faster than pools and convolutions."""
    return torch.movedim(torch.tensordot(x, matrix, dims=([axis], [1])), -1, axis)


def smoothed(x: torch.Tensor, deviation: float) -> torch.Tensor:
    """[N, C, d, h, w] convolved with a Gaussian along each axis; the border goes on outside."""
    reach = int(np.ceil(2.5 * deviation))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weight = torch.exp(-(at**2) / (2 * deviation**2))
    weight = weight / weight.sum()
    for axis in range(2, 5):
        n = x.shape[axis]
        place = torch.clamp(torch.arange(n)[:, None] + at.long(), 0, n - 1)
        matrix = torch.zeros(n, n).scatter_add_(1, place, weight.expand(n, -1))
        x = _along(x, axis, matrix)
    return x


@dataclass(frozen=True)
class ContrastSpace:
    """What maps have in common is taken away, so that two of different people are unlike.

    Deviations from the mean map, in units of each voxel's own deviation; the leading directions of
    what is left, over real volumes turned, zoomed and mirrored, are whitened. A space and its
    mirror image are the same.
    """

    shape: tuple[int, ...]
    """(d, h, w) of a row of F = d h w values."""
    mean: torch.Tensor
    """[F]"""
    spread: torch.Tensor
    """[F]"""
    directions: torch.Tensor
    """[k, F] of unit length."""
    taken: torch.Tensor
    """[k] share that is taken of each."""

    @staticmethod
    def fit(maps: torch.Tensor) -> ContrastSpace:
        """From the maps [N, d, h, w] of real volumes, of both sides of the split."""
        maps = maps[:: math.ceil(len(maps) / _MOST_FITTED)]
        rng = np.random.default_rng(0)
        rows = [pooled(maps)]
        for part in np.array_split(np.arange(len(maps)), min(len(maps), 8)):
            for _ in range(_AGAIN):
                pose = rotation(rng.uniform(-_TURNED, _TURNED, 3))
                pose = pose * np.exp(rng.uniform(-_ZOOMED, _ZOOMED))
                rows.append(pooled(turned(maps[part], pose)))
        x = torch.cat(rows)
        shape = tuple(min(n, SIDE) for n in maps.shape[1:])
        images = _mirror_images(shape)
        mean = x.mean(dim=0)[images].mean(dim=0)
        spread = (x - mean).square().mean(dim=0)[images].mean(dim=0).sqrt()
        spread = spread + _LEAST_SPREAD * x.std() + 1e-6
        rest = (x - mean) / spread
        # Over all mirror images values of different parity are uncorrelated, so each of the eight
        # parities has directions of its own: the same, at a small part of the cost.
        powers, vectors = [], []
        for basis in _parities(shape):
            along = rest @ basis.T
            power, vector = torch.linalg.eigh(along.T @ along / len(along))
            powers.append(power)
            vectors.append(vector.T @ basis)
        ranked, order = torch.cat(powers).clamp(min=0).sort(descending=True)
        count = max(0, min(_DIRECTIONS, int(_OF_A_VOLUME * len(maps)), len(ranked) - 2))
        kept = _KEPT * ranked.mean() + 1e-12
        taken = 1 - torch.sqrt(kept / (ranked[:count] + kept))
        return ContrastSpace(shape, mean, spread, torch.cat(vectors)[order[:count]], taken)

    @staticmethod
    def without_each(maps: torch.Tensor, fold: Integers) -> tuple[ContrastSpace, ...]:
        """For each fold, the space of the maps [N, d, h, w] that are not of it.

        A space is the narrower for what it was fitted to: these lie nearer to each other in it
        than others do, or farther. So nobody is looked up in a space that knows them.
        """
        return tuple(ContrastSpace.fit(maps[fold != i]) for i in range(fold.max() + 1))

    def place(self, rows: torch.Tensor) -> torch.Tensor:
        """Vectors [N, F] of rows [N, F]; their cosines are how alike two are."""
        return self.shrunk((rows - self.mean) / self.spread)

    def shrunk(self, rest: torch.Tensor) -> torch.Tensor:
        """Vectors [N, F] with less of the leading directions."""
        out: torch.Tensor = rest - ((rest @ self.directions.T) * self.taken) @ self.directions
        return out


def _parities(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Orthonormal bases [f, F] of rows that are even or odd along each axis, all F together."""
    axes = []
    for n in shape:
        one = torch.eye(n)
        even, odd = (one + one.flip(1))[: n - n // 2], (one - one.flip(1))[: n // 2]
        axes.append([part / part.norm(dim=1, keepdim=True) for part in (even, odd) if len(part)])
    return [torch.kron(torch.kron(a, b), c) for a, b, c in itertools.product(*axes)]


def _mirror_images(shape: tuple[int, ...]) -> torch.Tensor:
    """[8, F] the places of a row's values in its mirror images, in the order of `MIRRORS`."""
    place = torch.arange(math.prod(shape)).view(shape)
    return torch.stack(
        [place.flip([a for a in range(3) if mirror[a]]).flatten() for mirror in MIRRORS]
    )
