"""The search finds the nearest training volumes of a volume that may be moved and mirrored."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.likeness.moves import MIRRORS, moved
from fastgan.errors import AuditError
from fastgan.measures.shape import body
from fastgan.ops import nearest

__all__ = ["NEIGHBOURS", "CopySearch", "Found", "coarse"]

NEIGHBOURS = 10

# Beyond this, volumes are averaged over blocks: the search costs N M 8 D H W products.
_MOST_VOXELS = 32**3
# Values of [-1, 1] become whole numbers of 12 bits: their distances are exact, and what rounding
# moves a volume by is far below the distance to any other.
_SCALE = 2047
# A centre of mass this close to midway between two voxels is tried at both.
_MIDWAY = 0.15
_BATCH = 64


@dataclass(frozen=True)
class Found:
    """Nearest targets of each query, each target once, by its best pose."""

    distance: Floats
    """[N, k] Euclidean, of values in [-1, 1]."""
    index: Integers
    """[N, k] number of the target."""
    mirror: Integers
    """[N, k] position in `MIRRORS` at which it was found."""

    def rows(self, chosen: Integers | Bools) -> Found:
        """Of the chosen queries."""
        return Found(self.distance[chosen], self.index[chosen], self.mirror[chosen])

    @staticmethod
    def joined(parts: Sequence[Found]) -> Found:
        """Of all queries of the parts, one part after the other."""
        return Found(
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.mirror for part in parts]),
        )


class CopySearch:
    """Volumes in which copies of their own are looked for.

    Every volume, target or query, is moved by whole voxels so that the centre of mass of its body
    (`shape.body`) lies in the middle of the grid; a query whose centre lies about midway between
    voxels is tried at both, and in all eight mirror images. What a move brings in is -1. So copies
    that were shifted or mirrored are found, as long as their body did not leave the grid; rotated,
    scaled and bent ones are not looked for.

    Args:
        values: [M, D, H, W] in [-1, 1].
        groups: [M] number of each volume's subject.
    """

    def __init__(self, values: Floats, groups: Integers) -> None:
        self.groups = torch.from_numpy(np.asarray(groups, np.int64))
        small = coarse(values)
        moves = np.round(-_centre(small)).astype(np.int64)
        self._targets = _whole([moved(x, m) for x, m in zip(small, moves, strict=True)])

    def __len__(self) -> int:
        return len(self._targets)

    def search(
        self, values: Floats, k: int = NEIGHBOURS, groups: Integers | None = None
    ) -> tuple[Found, Found]:
        """The k nearest targets of volumes moved, and of volumes moved and mirrored.

        Args:
            values: [N, D, H, W].
            k: neighbours.
            groups: [N] subject of each query, whose own volumes are left out; None leaves out none.

        Raises:
            AuditError: fewer than k targets are left for a query.

        Cost: 8 N M D H W products of whole numbers, times 1 to 8 for centres about midway.
        """
        left = len(self)
        if groups is not None:
            left -= int(torch.bincount(self.groups).max())
        if k > left:
            raise AuditError(
                f"copies: {k} neighbours of other subjects needed, {left} volumes left"
            )
        parts = []
        for start in range(0, len(values), _BATCH):
            part = slice(start, start + _BATCH)
            own = None if groups is None else np.asarray(groups)[part]
            parts.append(self._search(coarse(values[part]), k, own))
        plain, best = (
            Found(
                np.concatenate([p[which].distance for p in parts]),
                np.concatenate([p[which].index for p in parts]),
                np.concatenate([p[which].mirror for p in parts]),
            )
            for which in (0, 1)
        )
        return plain, best

    def _search(self, small: Floats, k: int, groups: Integers | None) -> tuple[Found, Found]:
        poses, owner = [], []
        for number, (volume, centre) in enumerate(zip(small, _centre(small), strict=True)):
            for move in itertools.product(*(_steps(c) for c in centre)):
                poses.append(moved(volume, move))
                owner.append(number)
        rows = _whole(poses)
        shape = (len(rows), *small.shape[1:])
        flipped = [
            rows.view(shape).flip([axis + 1 for axis in range(3) if mirror[axis]]).flatten(1)
            for mirror in MIRRORS
        ]
        own = np.tile(owner, len(MIRRORS))
        exclude = None
        if groups is not None:
            exclude = (torch.from_numpy(groups[own].astype(np.int64)), self.groups)
        distance, index = nearest(torch.cat(flipped), self._targets, k, exclude=exclude)
        mirror = np.repeat(np.arange(len(MIRRORS)), len(rows))
        every = (distance.numpy() / _SCALE, index.numpy())
        plain = slice(len(rows))
        return (
            _merged(every[0][plain], every[1][plain], own[plain], mirror[plain], k),
            _merged(*every, own, mirror, k),
        )


def coarse(values: Floats) -> Floats:
    """Volumes [N, D, H, W] averaged over the smallest cubes that leave at most 32^3 voxels."""
    values = np.asarray(values, dtype=np.float32)
    size = 1
    while np.prod([max(1, n // size) for n in values.shape[1:]]) > _MOST_VOXELS:
        size += 1
    if size == 1:
        return values
    kept = values[:, *(slice(0, max(1, n // size) * size) for n in values.shape[1:])]
    blocks = [part for n in kept.shape[1:] for part in ((n // size, size) if n >= size else (1, n))]
    mean: Floats = kept.reshape(len(kept), *blocks).mean(axis=(2, 4, 6), dtype=np.float32)
    return mean


def _centre(values: Floats) -> Floats:
    """[N, 3] centre of mass of the body in voxels from the middle of the grid; 0 without a body."""
    weight = body((values + 1) / 2)
    total = weight.sum(axis=(1, 2, 3), dtype=np.float64)
    centre = np.zeros((len(values), 3))
    for axis in range(3):
        along = weight.sum(axis=tuple(i for i in (1, 2, 3) if i != axis + 1), dtype=np.float64)
        n = along.shape[1]
        centre[:, axis] = along @ (np.arange(n) - (n - 1) / 2)
    return centre / np.where(total > 0, total, 1.0)[:, None]


def _steps(centre: float) -> tuple[int, ...]:
    """Whole moves that bring a coordinate to the middle."""
    low = int(np.floor(-centre))
    share = -centre - low
    if abs(share - 0.5) < _MIDWAY:
        return low, low + 1
    return (int(np.round(-centre)),)


def _whole(volumes: list[Floats]) -> torch.Tensor:
    """[N, F] int16. Noise may lie outside [-1, 1]; only what no volume holds is cut off."""
    rows = np.stack(volumes).reshape(len(volumes), -1) * _SCALE
    return torch.from_numpy(np.clip(np.rint(rows), -32768, 32767).astype(np.int16))


def _merged(distance: Floats, index: Integers, owner: Integers, mirror: Integers, k: int) -> Found:
    """The k best targets of each owner over its poses [P, k].

    Exact: a target among the k best is among the k best of the pose that it is best at.
    """
    flat, which = distance.ravel(), index.ravel()
    who, how = np.repeat(owner, k), np.repeat(mirror, k)
    order = np.lexsort((how, which, flat, who))
    key = who[order] * (int(which.max()) + 1) + which[order]
    order = order[np.sort(np.unique(key, return_index=True)[1])]
    counts = np.bincount(who[order])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = order[rank < k].reshape(-1, k)
    return Found(flat[order], which[order], how[order])
