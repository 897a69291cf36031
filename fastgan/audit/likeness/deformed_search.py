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
        self._whole = _Products.of(space, rows, _Box(0, 0, space.shape[0]))
        self._halves = [_Products.of(space, rows, half) for half in _halves(space.shape)]

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

        Cost: 27 (M + k) F products a query for rows of F <= 12^3 values and k <=
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
            parts.append(_nearest(*self._nearest_image(maps), k_left, own))
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
        best, mirrored = self._nearest_image(maps)
        found = [_nearest(best, mirrored, k, own), _nearest(*self._by_halves(maps), k, own)]
        for pose in POSES[1:]:
            _keep(best, mirrored, *self._nearest_image(turned(maps, pose)))
        return [*found, _nearest(best, mirrored, k, own)]

    def _nearest_image(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._whole.nearest_image(pooled(maps).view(-1, *self.space.shape))

    def _by_halves(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] largest cosine of one half, over mirror images and signs, and its mirror image."""
        best = torch.full((len(maps), len(self)), -2.0)
        how = torch.zeros((len(maps), len(self)), dtype=torch.int64)
        rows = pooled(maps).view(-1, *self.space.shape)
        for half in self._halves:
            # Mirrored across itself a half is the other half, so that is done to the whole volume.
            axis = half.box.axis
            for turn in (False, True):
                cosine, mirror = half.nearest_image(rows.flip(axis + 1) if turn else rows)
                _keep(best, how, cosine, mirror ^ (MIRRORS.index(_one(axis)) * turn))
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
class _Box:
    """Places from start to stop along an axis, all along the others."""

    axis: int
    start: int
    stop: int

    def cut(self, rows: torch.Tensor) -> torch.Tensor:
        """Of rows [N, d, h, w]."""
        return rows.narrow(self.axis + 1, self.start, self.stop - self.start)


@dataclass(frozen=True)
class _Products:
    """Cosines of queries and their mirror images with all targets, for both signs at once.

    The vector of a row q of sign s is S W (s q - mean) / spread for the whitening S and the mask W
    of the box that is looked at. Its products and its length are linear and quadratic in s, so one
    matrix product serves both signs. What is even along an axis stays under mirroring and what is
    odd turns its sign, so the products of the eight parities, each an eighth of the whole, serve
    all eight mirror images.
    """

    box: _Box
    whole: bool
    """Whether the box is all there is."""
    mirrors: torch.Tensor
    """[I] of `MIRRORS`, those that keep the box."""
    linear: torch.Tensor
    """[8, f, M + k + 1] targets, directions and the mean, with what is done to q; by parity."""
    square: torch.Tensor
    """[d, h, w] weights of the square of q."""
    offset: torch.Tensor
    """[M] products of the mean's own vector with the targets."""
    middle: torch.Tensor
    """[k] products of directions with the mean."""
    length: torch.Tensor
    """[] squared length of the mean."""
    taken: torch.Tensor
    """[k] what whitening takes of squares."""

    @staticmethod
    def of(space: ContrastSpace, rows: torch.Tensor, box: _Box) -> _Products:
        """Of targets' rows [M, F], of which the values in the box are compared."""
        inside = torch.zeros(1, *space.shape)
        box.cut(inside).fill_(1.0)
        scale = inside.flatten() / space.spread
        targets = space.shrunk((rows - space.mean) * scale)
        targets = targets / targets.norm(dim=1, keepdim=True).clamp(min=1e-6)
        centre = space.mean * scale
        seen = space.shrunk(targets)
        linear = torch.cat([seen * scale, space.directions * scale, (centre * scale)[None]])
        whole = box.stop - box.start == space.shape[box.axis]
        kept = [i for i, mirror in enumerate(MIRRORS) if whole or not mirror[box.axis]]
        return _Products(
            box,
            whole,
            torch.tensor(kept),
            _halved(box.cut(linear.view(-1, *space.shape))).transpose(1, 2).contiguous(),
            box.cut((scale**2).view(1, *space.shape))[0],
            seen @ centre,
            space.directions @ centre,
            centre @ centre,
            2 * space.taken - space.taken**2,
        )

    def nearest_image(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, M] largest cosine of rows [N, d, h, w] of either sign, and the mirror image."""
        rows = self.box.cut(rows)
        count, known = len(self.offset), len(self.middle)
        parts = _by_parity(rows) @ self.linear
        product, rest = torch.split(parts, [count, known + 1], dim=2)
        if self.whole:
            # Its length is that of its mirror images.
            product, rest = _of_images(product), rest.sum(dim=0, keepdim=True)
        else:
            product, rest = (_of_images(part)[self.mirrors] for part in (product, rest))
        along, mean = rest[..., :-1], rest[..., -1]
        square = torch.einsum("ndhw,dhw->n", rows * rows, self.square)
        best = torch.full_like(product[0], -2.0)
        how = torch.zeros_like(best, dtype=torch.int64)
        for sign in (1.0, -1.0):
            length = square - 2 * sign * mean + self.length
            length = length - (sign * along - self.middle).square() @ self.taken
            scale = torch.rsqrt(length.clamp(min=1e-12))[..., None]
            if self.whole:
                largest, image = (sign * product).max(dim=0)
                cosine = (largest - self.offset) * scale[0]
            else:
                cosine, image = ((sign * product - self.offset) * scale).max(dim=0)
            _keep(best, how, cosine, self.mirrors[image])
        return best, how


def _by_parity(rows: torch.Tensor) -> torch.Tensor:
    """[8, N, f]: sums and differences of rows [N, d, h, w] and their mirror images, by axis."""
    for axis in range(3):
        count = rows.shape[-3 + axis]
        low, high = (
            part.narrow(-3 + axis, 0, count - count // 2) for part in (rows, rows.flip(-3 + axis))
        )
        rows = torch.stack([low + high, low - high], dim=axis)
    return rows.flatten(0, 2).flatten(2)


def _halved(rows: torch.Tensor) -> torch.Tensor:
    """`_by_parity`, weighted so that products with it are those of the rows themselves."""
    parts = _by_parity(rows)
    weight = torch.ones(())
    for n in rows.shape[1:]:
        # A sum is of two values; in the middle of an odd number, twice of one.
        own = torch.full((n - n // 2,), 0.5)
        own[n // 2 :] = 0.25
        weight = (weight[..., None] * own).flatten()
    return parts * weight


def _of_images(products: torch.Tensor) -> torch.Tensor:
    """Products [8, N, C] of mirror images, in the order of `MIRRORS`, from those of parities."""
    shape = products.shape
    for axis in range(3):
        even, odd = products.view(2, 2, 2, *shape[1:]).unbind(axis)
        products = torch.stack([even + odd, even - odd], axis)
    return products.view(shape)


def _distance(cosine: torch.Tensor) -> Floats:
    """Between unit vectors."""
    out: Floats = torch.sqrt((2 - 2 * cosine.double()).clamp(min=0)).numpy()
    return out


def _halves(shape: tuple[int, ...]) -> list[_Box]:
    """The lower and the upper half along each axis; of an odd number the lower is the larger."""
    middle = [n - n // 2 for n in shape]
    bounds = [[(0, m), (m, n)] for m, n in zip(middle, shape, strict=True)]
    return [_Box(axis, *part) for axis in range(3) for part in bounds[axis] if part[0] < part[1]]


def _one(axis: int) -> tuple[bool, ...]:
    return tuple(i == axis for i in range(3))
