"""Planted marks: a cube of voxels brighter, in every channel in which marks are looked for."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.controls import by_subject
from fastgan.audit.shortcuts.channels import channels, inside
from fastgan.audit.statistics import permutation_p
from fastgan.audit.statistics.group_tests import Groups, centred
from fastgan.errors import AuditError

__all__ = ["Place", "largest_cube", "mark_of", "places_of", "planted_marks"]

MARK = 3
"""Voxels along each side of a planted mark; one less where the region is thinner."""
PLACES = 12
"""Places at which marks are planted."""


class Place:
    """A cube of voxels, what each channel sees of a mark in it, and what the volumes show there.

    Args:
        mark: [D, H, W] height of a mark of one deviation of each voxel.
        region: [D, H, W] voxels in question.
    """

    def __init__(self, mark: Floats, region: Bools) -> None:
        self.at: list[Integers] = []
        """Flat positions that the mark changes, by channel."""
        steps = []
        for seen, within in zip(channels(mark[None]), inside(region), strict=True):
            self.at.append(np.flatnonzero((np.abs(seen[0]) > 1e-9) & within))
            steps.append(seen.ravel()[self.at[-1]])
        self.steps = np.concatenate(steps)
        """[P] by how much."""
        self._own: list[Floats] = []

    def collect(self, channel: int, flat: Floats) -> None:
        """Keep what the volumes [N, V] show in a channel at these positions."""
        self._own.append(flat[:, self.at[channel]])

    @property
    def own(self) -> Floats:
        """[N, P]"""
        return np.concatenate(self._own, axis=1)


def mark_of(values: Floats, place: Integers) -> Floats:
    """[D, H, W] one deviation of each voxel of a place.

    A voxel that never varies has none of its own: any mark stands out from it.
    """
    out = np.zeros(values[0].size, np.float32)
    out[place] = np.maximum(values.reshape(len(values), -1)[:, place].std(axis=0), 0.02)
    return out.reshape(values.shape[1:])


def _starts(region: Bools, side: int) -> Integers:
    """[n, 3] first voxels of the cubes that lie in the region."""
    window = np.lib.stride_tricks.sliding_window_view(region, (side,) * 3)
    out: Integers = np.argwhere(window.all(axis=(3, 4, 5)))
    return out


def largest_cube(region: Bools) -> int:
    """Voxels along each side of the marks that the region holds; 0 where it holds none."""
    sides = (n for n in (MARK, MARK - 1) if min(region.shape) >= n and len(_starts(region, n)))
    return next(sides, 0)


def places_of(region: Bools, side: int, rng: np.random.Generator) -> list[Integers]:
    """Flat positions of cubes that lie in the region."""
    starts = _starts(region, side) if side else np.empty((0, 3), np.int64)
    if not len(starts):
        raise AuditError(f"marks: the region holds no cube of 2 voxels, volumes {region.shape}")
    chosen = starts[rng.permutation(len(starts))[:PLACES]]
    steps = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return [np.ravel_multi_index(tuple((start + steps).T), region.shape) for start in chosen]


def planted_marks(
    groups: Groups,
    marked: list[Place],
    beside: Floats,
    plant: tuple[float, float],
    permutations: int,
    rng: np.random.Generator,
) -> Floats:
    """p-values [R]: the groups of each control row carry a mark, tested as all else is.

    Adding a mark changes what lies about its place alone, so all other maxima are at hand.
    """
    height, agreement = plant
    contrast = groups.contrast(groups.contrasts[-1])
    null, first = slice(1, 1 + permutations), 1 + permutations
    carries = by_subject(groups, first, agreement, rng)
    marks = centred(carries.T.astype(np.float32), groups.strata)  # [N, R]
    through = contrast @ marks  # [1 + B + R, R]
    products = [contrast @ centred(place.own, groups.strata) for place in marked]
    out = np.empty(len(carries))
    for run in range(len(carries)):
        i = run % len(marked)
        product = products[i] + through[:, run, None] * (height * marked[i].steps)
        product = (product - product.mean(axis=0)) / np.maximum(product.std(axis=0), 1e-12)
        largest = np.maximum(np.abs(product).max(axis=1), beside[i])
        out[run] = permutation_p(float(largest[first + run]), largest[null])
    return out
