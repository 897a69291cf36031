"""The search finds volumes again that were made brighter, inverted, turned, zoomed or halved.

It looks at local contrast, which knows no brightness, in nine poses, eight mirror images and both
signs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fastgan.arrays import Floats, Integers
from fastgan.audit.likeness.copy_search import NEIGHBOURS, Found
from fastgan.audit.likeness.local_contrast import ContrastSpace, local_contrast
from fastgan.audit.likeness.moves import MIRRORS
from fastgan.errors import AuditError

__all__ = ["POSES", "Deformed", "DeformedSearch"]

ZOOM, DEGREES = 1.1, 15.0
"""Each pose is zoomed by 1.1 or its inverse, or turned by 15 degrees about an axis, or neither."""

_BATCH = 64


def _poses() -> Floats:
    """[9, 3, 3]"""
    found = [np.eye(3), np.eye(3) / ZOOM, np.eye(3) * ZOOM]
    for plane in itertools.combinations(range(3), 2):
        for turn in np.radians([DEGREES, -DEGREES]):
            pose = np.eye(3)
            cosine, sine = np.cos(turn), np.sin(turn)
            pose[np.ix_(plane, plane)] = [[cosine, -sine], [sine, cosine]]
            found.append(pose)
    return np.stack(found).astype(np.float32)


POSES = _poses()


@dataclass(frozen=True)
class Deformed:
    """Neighbours of volumes by local contrast."""

    still: Found
    """As they lie or mirrored, of either sign of contrast."""
    half: Found
    """Likewise, by the one of six halves of the volume that is most alike."""
    posed: Found
    """In the best of all poses."""


class DeformedSearch:
    """Volumes of which deformed copies are looked for.

    Args:
        values: [M, D, H, W].
        groups: [M] number of each volume's subject.
        space: of all real volumes.
    """

    def __init__(self, values: Floats, groups: Integers, space: ContrastSpace) -> None:
        self.space = space
        self.groups = torch.from_numpy(np.asarray(groups, np.int64))
        self._maps = local_contrast(values)
        self._targets = _unit(space.place(self._maps))
        self._halves = _halves(tuple(self._maps.shape[1:]))
        self._norms = torch.sqrt((self._targets**2) @ self._halves.T)  # [M, 6]
        self._products = [_Products.of(space, self._targets, mirror) for mirror in MIRRORS]

    def __len__(self) -> int:
        return len(self._targets)

    def search(
        self, values: Floats, k: int = NEIGHBOURS, groups: Integers | None = None
    ) -> Deformed:
        """The k nearest targets of volumes [N, D, H, W], by distances of unit vectors.

        Args:
            values: [N, D, H, W].
            k: neighbours.
            groups: [N] subject of each query, whose own volumes are left out; None leaves out none.

        Raises:
            AuditError: fewer than k targets are left for a query.

        Cost: 72 N M d h w products for maps of d h w <= 12^3 voxels.
        """
        parts = [self._search(*part) for part in self._parts(values, k, groups)]
        still, half, posed = ([p[i] for p in parts] for i in range(3))
        return Deformed(_joined(still), _joined(half), _joined(posed))

    def unturned(
        self, values: Floats, k: int = NEIGHBOURS, groups: Integers | None = None
    ) -> Found:
        """`Deformed.still` alone, at a twentieth of the cost.

        Raises:
            AuditError: fewer than k targets are left for a query.
        """
        parts = []
        for maps, k_left, own in self._parts(values, k, groups):
            best, mirrored = self._empty(maps)
            self._keep_mirrored(maps, best, mirrored)
            parts.append(_nearest(best, mirrored, k_left, own))
        return _joined(parts)

    def _parts(
        self, values: Floats, k: int, groups: Integers | None
    ) -> Iterator[tuple[torch.Tensor, int, torch.Tensor | None]]:
        """Maps of some queries at a time, k, and which targets are their own subjects'."""
        left = len(self)
        if groups is not None:
            left -= int(torch.bincount(self.groups).max())
        if k > left:
            raise AuditError(
                f"copies: {k} neighbours of other subjects needed, {left} volumes left"
            )
        for start in range(0, len(values), _BATCH):
            part = slice(start, start + _BATCH)
            own = None
            if groups is not None:
                own = torch.from_numpy(np.asarray(groups, np.int64)[part])[:, None] == self.groups
            yield local_contrast(values[part]), k, own

    def _empty(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = len(maps), len(self)
        return torch.full(shape, -2.0), torch.zeros(shape, dtype=torch.int64)

    def _keep_mirrored(
        self, maps: torch.Tensor, best: torch.Tensor, mirrored: torch.Tensor
    ) -> None:
        for mirror, products in enumerate(self._products):
            _keep(best, mirrored, torch.maximum(*products.cosines(maps.flatten(1))), mirror)

    def _search(self, maps: torch.Tensor, k: int, own: torch.Tensor | None) -> list[Found]:
        """Still, half and posed."""
        best, mirrored = self._empty(maps)
        self._keep_mirrored(maps, best, mirrored)
        found = [_nearest(best, mirrored, k, own), _nearest(*self._by_halves(maps), k, own)]
        for pose in POSES[1:]:
            self._keep_mirrored(_turned(maps, pose), best, mirrored)
        return [*found, _nearest(best, mirrored, k, own)]

    def _by_halves(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] largest cosine of one half, over mirror images and signs, and its mirror image."""
        best, how = self._empty(maps)
        for mirror in range(len(MIRRORS)):
            flipped = maps.flip(_axes(mirror))
            for signed in (flipped, -flipped):
                vector = self.space.place(signed)
                for part, norm in zip(self._halves, self._norms.T, strict=True):
                    inside = part > 0
                    own = vector[:, inside]
                    cosine = own @ self._targets[:, inside].T
                    cosine /= own.norm(dim=1, keepdim=True) * norm + 1e-12
                    _keep(best, how, cosine, mirror)
        return best, how


def _keep(best: torch.Tensor, how: torch.Tensor, cosine: torch.Tensor, mirror: int) -> None:
    better = cosine > best
    torch.maximum(best, cosine, out=best)
    how.masked_fill_(better, mirror)


def _nearest(best: torch.Tensor, how: torch.Tensor, k: int, own: torch.Tensor | None) -> Found:
    """The k targets of the largest cosines [N, M], without a query's own."""
    best = best if own is None else best.masked_fill(own, -2.0)
    order = torch.argsort(best, dim=1, descending=True, stable=True)[:, :k]
    return Found(_distance(best.gather(1, order)), order.numpy(), how.gather(1, order).numpy())


def _joined(parts: list[Found]) -> Found:
    return Found(
        np.concatenate([p.distance for p in parts]),
        np.concatenate([p.index for p in parts]),
        np.concatenate([p.mirror for p in parts]),
    )


@dataclass(frozen=True)
class _Products:
    """Products of a query's map with all targets in one mirror image, for both signs at once.

    The vector of a map q of sign s is S (s q - mean) / spread for the shrinking S. Its products and
    its length are linear and quadratic in q, so a mirrored query against a target is the query
    against what is mirrored here.
    """

    linear: torch.Tensor
    """[F, M + k + 1] targets, directions, mean."""
    square: torch.Tensor
    """[F] weight of q^2."""
    offset: torch.Tensor
    """[M] products of the mean's own vector with the targets."""
    middle: torch.Tensor
    """[k] products of directions with the mean."""
    length: torch.Tensor
    """[] squared length of the mean."""
    taken: torch.Tensor
    """[k] what shrinking takes of squares."""

    @staticmethod
    def of(space: ContrastSpace, targets: torch.Tensor, mirror: tuple[bool, ...]) -> _Products:
        shape, spread = space.mean.shape, space.spread.flatten()
        centre = space.mean.flatten() / spread
        rows = torch.cat(
            [space.shrunk(targets) / spread, space.directions / spread, (centre / spread)[None]]
        )
        axes = [axis + 1 for axis in range(3) if mirror[axis]]
        flipped = rows.view(-1, *shape).flip(axes).flatten(1)
        square = (1 / spread**2).view(1, *shape).flip(axes).flatten()
        return _Products(
            flipped.T.contiguous(),
            square,
            space.shrunk(targets) @ centre,
            space.directions @ centre,
            centre @ centre,
            2 * space.taken - space.taken**2,
        )

    def cosines(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] of maps [N, F] as they are, and of their negatives."""
        count = len(self.offset)
        linear = maps @ self.linear
        square = (maps * maps) @ self.square
        product, along, mean = linear[:, :count], linear[:, count:-1], linear[:, -1]
        found = []
        for sign in (1.0, -1.0):
            length = square - 2 * sign * mean + self.length
            length = length - (sign * along - self.middle).square() @ self.taken
            scale = torch.rsqrt(length.clamp(min=1e-12))[:, None]
            found.append((sign * product - self.offset) * scale)
        return found[0], found[1]


def _axes(mirror: int) -> list[int]:
    return [axis + 1 for axis in range(3) if MIRRORS[mirror][axis]]


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    unit: torch.Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return unit


def _distance(cosine: torch.Tensor) -> Floats:
    """Between unit vectors."""
    out: Floats = torch.sqrt((2 - 2 * cosine.double()).clamp(min=0)).numpy()
    return out


def _halves(shape: tuple[int, ...]) -> torch.Tensor:
    """[6, F] which voxels are in the lower and in the upper half along each axis."""
    halves = []
    for axis, n in enumerate(shape):
        low = torch.arange(n).view([-1 if i == axis else 1 for i in range(3)]) < n / 2
        halves += [low.expand(shape), ~low.expand(shape)]
    out: torch.Tensor = torch.stack(halves).flatten(1).float()
    return out


def _turned(maps: torch.Tensor, pose: Floats) -> torch.Tensor:
    """Maps [N, d, h, w] read at pose @ x, x in voxels from the middle."""
    size = torch.tensor([float(n) for n in maps.shape[1:]])
    # In units of half an axis, where grid_sample works, last axis first.
    scale = torch.diag(1 / size) @ torch.from_numpy(pose) @ torch.diag(size)
    matrix = torch.zeros(len(maps), 3, 4)
    matrix[:, :, :3] = scale.flip(0, 1)
    place = F.affine_grid(matrix, [len(maps), 1, *maps.shape[1:]], align_corners=False)
    out: torch.Tensor = F.grid_sample(
        maps[:, None], place, padding_mode="border", align_corners=False
    )[:, 0]
    return out
