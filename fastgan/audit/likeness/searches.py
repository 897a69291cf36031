"""All searches for copies are made together: by voxels and by local contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fastgan.arrays import Floats, Integers
from fastgan.audit.likeness.copy_search import NEIGHBOURS, CopySearch, Found
from fastgan.audit.likeness.deformed_search import Deformed, DeformedSearch
from fastgan.audit.likeness.local_contrast import ContrastSpace
from fastgan.audit.likeness.outliers import isolation

__all__ = ["Near", "Searches"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Near:
    """Neighbours of volumes by each search."""

    plain: Found
    """By voxels, centred."""
    mirrored: Found
    """By voxels, centred, in the best mirror image."""
    still: Found
    """By local contrast, as it lies or mirrored, of either sign."""
    half: Found
    """By the local contrast of half of the volume."""
    posed: Found
    """By local contrast, turned or zoomed as well."""

    @property
    def same_pose(self) -> tuple[Found, ...]:
        """The searches of whole volumes that do not turn or zoom."""
        return self.plain, self.mirrored, self.still

    @property
    def deformed(self) -> tuple[Found, ...]:
        """The searches of halves and of turned and zoomed volumes."""
        return self.half, self.posed

    def isolations(self) -> tuple[Floats, ...]:
        """Isolation [N] by each search of `same_pose`."""
        return tuple(isolation(found.distance) for found in self.same_pose)

    def isolations_deformed(self) -> tuple[Floats, ...]:
        """Isolation [N] by each search of `deformed`."""
        return tuple(isolation(found.distance) for found in self.deformed)


class Searches:
    """Volumes of which copies are looked for.

    Args:
        values: [M, D, H, W].
        groups: [M] number of each volume's subject.
        spaces: one for each fold of the queries.
    """

    def __init__(self, values: Floats, groups: Integers, spaces: Sequence[ContrastSpace]) -> None:
        self._by_voxels = CopySearch(values, groups)
        self._by_contrast = [DeformedSearch(values, groups, space) for space in spaces]

    def search(
        self,
        values: Floats,
        k: int = NEIGHBOURS,
        groups: Integers | None = None,
        folds: Integers | None = None,
    ) -> Near:
        """The k nearest targets of volumes [N, D, H, W], without those of a query's own group [N].

        Args:
            values: [N, D, H, W].
            k: neighbours.
            groups: [N] subject of each query; None leaves out none.
            folds: [N] of the queries, each looked up in its fold's space; None: by turns, for
                queries that no space was fitted to.

        Raises:
            AuditError: fewer than k targets are left for a query.
        """
        plain, mirrored = self._by_voxels.search(values, k, groups)

        def look(search: DeformedSearch, rows: Integers) -> Deformed:
            return search.search(values[rows], k, None if groups is None else groups[rows])

        found, back = self._by_fold(len(values), folds, look)
        still, half, posed = (
            Found.joined([getattr(one, name) for one in found]).rows(back)
            for name in ("still", "half", "posed")
        )
        return Near(plain, mirrored, still, half, posed)

    def isolations(self, values: Floats) -> tuple[Floats, ...]:
        """`Near.isolations` of volumes [N, D, H, W] that no space was fitted to.

        A thirtieth of the cost of `search`, as nothing is turned or halved.
        """
        plain, mirrored = self._by_voxels.search(values)

        def look(search: DeformedSearch, rows: Integers) -> Found:
            return search.unturned(values[rows])

        found, back = self._by_fold(len(values), None, look)
        still = Found.joined(found).rows(back)
        return tuple(isolation(one.distance) for one in (plain, mirrored, still))

    def _by_fold(
        self,
        count: int,
        folds: Integers | None,
        look: Callable[[DeformedSearch, Integers], _T],
    ) -> tuple[list[_T], Integers]:
        """What `look` finds of the queries of each fold, and how to bring them back in order."""
        if folds is None:
            folds = np.arange(count) % len(self._by_contrast)
        order, found = [], []
        for fold, search in enumerate(self._by_contrast):
            rows = np.flatnonzero(folds == fold)
            if len(rows):
                order.append(rows)
                found.append(look(search, rows))
        return found, np.argsort(np.concatenate(order))
