"""The search finds volumes again that were made brighter, inverted, turned, zoomed or halved.

It looks at local contrast, which knows no brightness, in 21 poses, eight mirror images and both
signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fastgan.arrays import Floats, Integers
from fastgan.audit.likeness.copy_search import NEIGHBOURS, Found
from fastgan.audit.likeness.local_contrast import (
    ContrastSpace,
    local_contrast,
    pooled,
    rotation,
    turned,
)
from fastgan.audit.likeness.moves import MIRRORS
from fastgan.errors import AuditError

__all__ = ["POSES", "Deformed", "DeformedSearch"]

ZOOM, DEGREES = 1.1, 15.0
"""Each pose is turned by 15 degrees either way about one axis or not, and zoomed by 1.1 or its
inverse or not."""

_BATCH = 64

POSES = np.stack(
    [
        rotation(turns) * zoom
        for zoom in (1.0, ZOOM, 1 / ZOOM)
        for turns in (np.zeros(3), *(DEGREES * np.eye(3)), *(-DEGREES * np.eye(3)))
    ]
)
"""[21, 3, 3], the first as it lies."""


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
        space: of real volumes, queries not among them.
    """

    def __init__(self, values: Floats, groups: Integers, space: ContrastSpace) -> None:
        self.space = space
        self.groups = torch.from_numpy(np.asarray(groups, np.int64))
        rows = pooled(local_contrast(values))
        self._count = len(rows)
        self._whole = _Products.of(space, rows, torch.ones(rows.shape[1]), mirrored=True)
        self._halves = [
            _Products.of(space, rows, half, mirrored=False) for half in _halves(space.shape)
        ]

    def __len__(self) -> int:
        return self._count

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

        Cost: 21 (8 M + k) F + 48 (M + k) F products a query for rows of F <= 12^3 values and k <=
        300 whitened directions.
        """
        parts = [self._search(*part) for part in self._parts(values, k, groups)]
        still, half, posed = ([p[i] for p in parts] for i in range(3))
        return Deformed(Found.joined(still), Found.joined(half), Found.joined(posed))

    def unturned(
        self, values: Floats, k: int = NEIGHBOURS, groups: Integers | None = None
    ) -> Found:
        """`Deformed.still` alone, at a thirtieth of the cost.

        Raises:
            AuditError: fewer than k targets are left for a query.
        """
        parts = []
        for maps, k_left, own in self._parts(values, k, groups):
            parts.append(_nearest(*self._whole.nearest_image(pooled(maps)), k_left, own))
        return Found.joined(parts)

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

    def _search(self, maps: torch.Tensor, k: int, own: torch.Tensor | None) -> list[Found]:
        """Still, half and posed."""
        best, mirrored = self._whole.nearest_image(pooled(maps))
        found = [_nearest(best, mirrored, k, own), _nearest(*self._by_halves(maps), k, own)]
        for pose in POSES[1:]:
            _keep(best, mirrored, *self._whole.nearest_image(pooled(turned(maps, pose))))
        return [*found, _nearest(best, mirrored, k, own)]

    def _by_halves(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] largest cosine of one half, over mirror images and signs, and its mirror image."""
        best = torch.full((len(maps), len(self)), -2.0)
        how = torch.zeros((len(maps), len(self)), dtype=torch.int64)
        for mirror in range(len(MIRRORS)):
            rows = pooled(maps.flip(_axes(mirror)))
            for half in self._halves:
                _keep(best, how, half.nearest_image(rows)[0], torch.tensor(mirror))
        return best, how


def _keep(
    best: torch.Tensor, how: torch.Tensor, cosine: torch.Tensor, mirror: torch.Tensor
) -> None:
    torch.where(cosine > best, mirror, how, out=how)
    torch.maximum(best, cosine, out=best)


def _nearest(best: torch.Tensor, how: torch.Tensor, k: int, own: torch.Tensor | None) -> Found:
    """The k targets of the largest cosines [N, M], without a query's own."""
    best = best if own is None else best.masked_fill(own, -2.0)
    order = torch.argsort(best, dim=1, descending=True, stable=True)[:, :k]
    return Found(_distance(best.gather(1, order)), order.numpy(), how.gather(1, order).numpy())


@dataclass(frozen=True)
class _Products:
    """Cosines of queries with all targets and their mirror images, for both signs at once.

    The vector of a row q of sign s is S W (s q - mean) / spread for the whitening S and the mask W
    of the values that are looked at. Its products and its length are linear and quadratic in s, so
    one matrix product serves both signs; and as the space is its own mirror image, the length of a
    mirrored query is that of the query.
    """

    linear: torch.Tensor
    """[F, I M + k + 1] images of targets, directions and the mean, with what is done to q."""
    square: torch.Tensor
    """[F] weights of the square of q."""
    offset: torch.Tensor
    """[M] products of the mean's own vector with the targets."""
    middle: torch.Tensor
    """[k] products of directions with the mean."""
    length: torch.Tensor
    """[] squared length of the mean."""
    taken: torch.Tensor
    """[k] what whitening takes of squares."""

    @staticmethod
    def of(
        space: ContrastSpace, rows: torch.Tensor, inside: torch.Tensor, *, mirrored: bool
    ) -> _Products:
        """Of targets' rows [M, F], of which the values inside [F] are compared."""
        scale = inside / space.spread
        targets = space.shrunk((rows - space.mean) * scale)
        targets = targets / targets.norm(dim=1, keepdim=True).clamp(min=1e-6)
        centre = space.mean * scale
        seen = space.shrunk(targets)
        images = (seen * scale).view(-1, *space.shape)
        chosen = range(len(MIRRORS)) if mirrored else (0,)
        linear = [images.flip(_axes(mirror)).flatten(1) for mirror in chosen]
        linear += [space.directions * scale, (centre * scale)[None]]
        return _Products(
            torch.cat(linear).T.contiguous(),
            scale**2,
            seen @ centre,
            space.directions @ centre,
            centre @ centre,
            2 * space.taken - space.taken**2,
        )

    def nearest_image(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] largest cosine of rows [N, F] of either sign, and the image that it is of."""
        count, known = len(self.offset), len(self.middle)
        linear = rows @ self.linear
        product = linear[:, : -known - 1].reshape(len(rows), -1, count)
        along, mean = linear[:, -known - 1 : -1], linear[:, -1]
        square = (rows * rows) @ self.square
        found = []
        for sign in (1.0, -1.0):
            length = square - 2 * sign * mean + self.length
            length = length - (sign * along - self.middle).square() @ self.taken
            scale = torch.rsqrt(length.clamp(min=1e-12))[:, None]
            # Offset and length are the same for all images: the largest product decides.
            signed, image = (sign * product).max(dim=1)
            found.append(((signed - self.offset) * scale, image))
        (plain, image), (negative, other) = found
        return torch.maximum(plain, negative), torch.where(negative > plain, other, image)


def _axes(mirror: int) -> list[int]:
    return [axis + 1 for axis in range(3) if MIRRORS[mirror][axis]]


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
