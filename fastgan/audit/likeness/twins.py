"""Volumes that are listed twice under two names are found here, so that they hide no copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.audit.likeness.copy_search import NEIGHBOURS, CopySearch, Found
from fastgan.audit.likeness.deformed_search import DeformedSearch
from fastgan.audit.likeness.local_contrast import ContrastSpace, local_contrast
from fastgan.audit.likeness.outliers import isolation
from fastgan.errors import AuditError

__all__ = ["LEAST", "Twins"]

LEAST = 40
"""Volumes among which a twin is looked for; fewer do not say how near neighbours lie."""
# Alarms of both searches together where no volume is listed twice.
_ALARMS = 0.01
# A twin's nearest volume lies at less than half the distance of the next ones, whatever chance
# says: of 1,270 nodules, none lies so near to one of another patient.
_LARGEST_RATIO = 0.5
# Closer than this, two volumes are one even where half of all are listed twice.
_ONE_VOLUME = 0.02
# The middle of the null, which twins hardly touch, says how its tail falls off.
_FROM, _TO = 0.5, 0.8
_SHAPE = 0.1


@dataclass(frozen=True)
class Twins:
    """Which volumes have a near-duplicate under the name of another subject, and which one it is.

    A volume has one if, by voxels or by local contrast, its nearest volume of another subject is
    much nearer than the next ones: at a chance of at most 1 % over all volumes. That chance is
    extrapolated from the middle of all volumes' isolation, half to four fifths, which a fifth of
    twins hardly moves.
    """

    partner: Integers
    """[V] position of the nearest volume of another subject, -1 where there is no twin."""
    typical: float
    """Median distance to the nearest volume of another subject, in voxel values."""
    values: Floats
    searches: tuple[CopySearch, DeformedSearch]
    middles: tuple[tuple[float, float], ...]
    """By each search, median isolation and the mean of what lies above it."""

    @staticmethod
    def among(values: Floats, subjects: Texts) -> Twins:
        """Of volumes [V, D, H, W] and their subjects [V].

        Raises:
            AuditError: too few volumes or subjects.
        """
        who = np.unique(subjects, return_inverse=True)[1]
        others = len(values) - int(np.bincount(who).max())
        if len(values) < LEAST or others < NEIGHBOURS:
            raise AuditError(
                f"near-duplicates: needs {LEAST} volumes, {NEIGHBOURS} of them of other subjects, "
                f"got {len(values)} and {others}"
            )
        space = ContrastSpace.fit(local_contrast(values))
        searches = CopySearch(values, who), DeformedSearch(values, who, space)
        near = _nearest(searches, values, who)
        each = [isolation(found.distance) for found in near]
        middles = tuple(_middle(u) for u in each)
        twin = np.stack([_is_twin(u, m, len(u)) for u, m in zip(each, middles, strict=True)])
        found = twin.any(axis=0)
        nearest = np.where(twin[0], near[0].index[:, 0], near[1].index[:, 0])
        flat = torch.from_numpy(np.asarray(values, np.float32)).flatten(1)
        apart = (flat - flat[torch.from_numpy(nearest)]).norm(dim=1).numpy()
        typical = float(np.median(apart[~found])) if (~found).any() else float(np.median(apart))
        return Twins(np.where(found, nearest, -1), typical, values, searches, middles)

    @property
    def found(self) -> Bools:
        """[V] whether a volume has a twin."""
        out: Bools = self.partner >= 0
        return out

    def recognised(self, values: Floats) -> Bools:
        """[N] whether volumes would be called twins, were they listed under another name."""
        found = np.zeros(len(values), bool)
        for near, middle in zip(_nearest(self.searches, values), self.middles, strict=True):
            found |= _is_twin(isolation(near.distance), middle, len(self.values))
        return found

    def second(self, side: Bools) -> Bools:
        """[V] of each pair, the held-out one, or the later one of one side: what is left out."""
        order = np.where(side, 1, 0) * len(side) + np.arange(len(side))
        out = np.zeros(len(side), bool)
        for one in np.flatnonzero(self.found):
            other = int(self.partner[one])
            out[one if order[one] > order[other] else other] = True
        return out


def _nearest(
    searches: tuple[CopySearch, DeformedSearch], values: Floats, groups: Integers | None = None
) -> tuple[Found, Found]:
    """By voxels and by local contrast, mirrored."""
    by_voxels, by_contrast = searches
    return by_voxels.search(values, groups=groups)[1], by_contrast.unturned(values, groups=groups)


def _middle(u: Floats) -> tuple[float, float]:
    """Median of isolation, and the mean excess over it, by likelihood of what is not cut off."""
    low, high = np.quantile(u, [_FROM, _TO])
    above = u[u > low] - low
    seen = np.minimum(above, high - low)
    scale = float(seen.sum()) / max(int(np.count_nonzero(above < high - low)), 1)
    return float(low), max(scale, 1e-6)


def _is_twin(u: Floats, middle: tuple[float, float], count: int) -> Bools:
    low, scale = middle
    height = np.maximum(u - low, 0.0) / scale
    chance = (1 - _FROM) * (1 + _SHAPE * height) ** (-1 / _SHAPE)
    ratio = np.exp(-u)
    rare = (2 * chance * count <= _ALARMS) & (ratio <= _LARGEST_RATIO)
    out: Bools = rare | (ratio <= _ONE_VOLUME)
    return out
