"""Are there fewer generated volumes than patients somewhere along an axis? One test of all axes.

Volumes are ranked along every axis, patients and generated ones together, within their class.
Scores of a rank (in each part or not, and the rank itself either way round) are summed over
generated volumes; a sum is held against its moments under exchange of volumes within classes, and
the largest of all sums, in each class and over all, against its own permutations. So the size is
exact for volumes that are independent, whatever the axes are and however they go together.

Source: Hajek, Sidak and Sen 1999, "Theory of rank tests"; Westfall and Young 1993,
"Resampling-based multiple testing", max-T; Genovese, Roeder and Wasserman 2006, "False discovery
control with p-value weighting".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.statistics import permutation_p

__all__ = ["CUTS", "Cell", "Depletion", "Ranked", "ranks"]

CUTS = ((0.0, 0.1), (0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0), (0.9, 1.0))
"""Parts of the patients along an axis, by quantiles."""
LOWEST, HIGHEST = 1, 5
SCORES = len(CUTS) + 2


class Cell(NamedTuple):
    """Where there may be fewer."""

    stratum: int
    """Position of the class, or -1: over all."""
    axis: int
    part: int
    """Of CUTS."""
    ratio: float
    """Generated volumes in it over what patients of their classes lead to expect."""


class Ranked:
    """Volumes ranked along axes within strata.

    Args:
        values: [N, A] of all volumes.
        strata: [N] positions of classes.
        weights: [A] by which statistics of an axis count more; its own threshold is lower by that,
            and that of the others higher by what this costs.
    """

    def __init__(self, values: Floats, strata: Integers, weights: Floats | None = None) -> None:
        self.values, self.strata = values, strata
        self.weights = np.ones(values.shape[1]) if weights is None else weights
        self.kinds = [int(kind) for kind in np.unique(strata)]
        self._scores = np.empty((len(values), SCORES * values.shape[1]), np.float32)
        for at in self._members(-1):
            rank = ranks(values[at])
            parts = _inside(rank).astype(np.float32)
            both = np.concatenate([*-parts, rank, -rank], axis=1)
            self._scores[at] = both - both.mean(axis=0)

    def _members(self, stratum: int) -> list[Bools]:
        """[N] who is in a stratum, or in each of them."""
        chosen = self.kinds if stratum < 0 else [stratum]
        return [self.strata == kind for kind in chosen]

    def statistics(self, made: Bools) -> Floats:
        """[R, K] standardised sums over generated volumes [R, N]; large where there are few.

        Every row has as many in each stratum as the first. K: `SCORES` of each axis in each
        stratum, then over all, where there are several.
        """
        found: list[Floats] = []
        total = np.zeros((len(made), self._scores.shape[1]))
        spread = np.zeros(self._scores.shape[1])
        for at in self._members(-1):
            scores, count, drawn = self._scores[at], int(at.sum()), int(made[0, at].sum())
            sums = made[:, at].astype(np.float32) @ scores
            # Of a sum over `drawn` of `count`, without replacement.
            share = drawn * (count - drawn) / max(count - 1, 1)
            variance = share * np.square(scores, dtype=np.float64).mean(axis=0)
            found.append(_standard(sums, variance))
            total += sums
            spread += variance
        if len(found) > 1:
            found.append(_standard(total, spread))
        out: Floats = np.concatenate(found, axis=1) * np.tile(self.weights, SCORES * len(found))
        return out

    def fewer(self, found: Floats, critical: float, made: Bools, below: float) -> Cell | None:
        """The surest place where statistics [K] of generated volumes `made` [N] exceed a value and
        the ratio lies below another.
        """
        order = np.argsort(-found, kind="stable")[: int((found > critical).sum())]
        cells = (self._cell(int(column), made) for column in order)
        return next((cell for cell in cells if cell.ratio < below), None)

    def _cell(self, column: int, made: Bools) -> Cell:
        axes = self.values.shape[1]
        group, rest = divmod(column, SCORES * axes)
        score, axis = divmod(rest, axes)
        stratum = self.kinds[group] if group < len(self.kinds) else -1
        # High ranks throughout are few low ones.
        part = (*range(len(CUTS)), LOWEST, HIGHEST)[score]
        seen, expected = 0.0, 0.0
        for at in self._members(stratum):
            own, drawn = self.values[at][:, axis : axis + 1], made[at]
            if 0 < drawn.sum() < len(drawn):
                inside = _inside(ranks(own, own[~drawn]))[part, :, 0]
                seen += float(inside[drawn].sum())
                expected += float(inside[~drawn].mean() * drawn.sum())
        return Cell(stratum, axis, part, seen / expected if expected else 1.0)


@dataclass(frozen=True)
class Depletion:
    """The test of one generated set."""

    p: float
    """Over all axes, parts and classes together."""
    critical: float
    """What the largest sum exceeds in a share alpha of the permutations at most."""
    cell: Cell | None
    """Where there are significantly fewer, and few enough."""

    @classmethod
    def of(
        cls,
        ranked: Ranked,
        made: Bools,
        *,
        below: float,
        alpha: float,
        permutations: int,
        rng: np.random.Generator,
    ) -> Depletion:
        """Of generated volumes `made` [N]; few enough is a ratio below `below`."""
        found = ranked.statistics(_exchanged(made, ranked.strata, permutations, rng))
        largest = found.max(axis=1)
        # Rounding must not break a tie in favour of what was observed.
        null = np.sort(largest[1:]) * (1 + 1e-6)
        exceeded = int(alpha * (1 + permutations) + 1e-9)
        critical = float(null[-exceeded]) if exceeded else float("inf")
        cell = ranked.fewer(found[0], critical, made, below)
        return cls(permutation_p(float(largest[0]), null), critical, cell)


def ranks(values: Floats, among: Floats | None = None) -> Floats:
    """Of each column of [N, A] among those of [M, A], or among themselves, in [0, 1].

    Equal values share their middle.
    """
    out = np.empty(values.shape)
    for axis, column in enumerate(values.T):
        ordered = np.sort(column if among is None else among[:, axis])
        low, high = (np.searchsorted(ordered, column, side=side) for side in ("left", "right"))
        out[:, axis] = (low + high) / (2 * len(ordered))
    return out


def _inside(rank: Floats) -> Bools:
    """[CUTS, N, A] whether a rank lies in a part; the lowest begins with 0."""
    return np.stack([((rank > low) | (low == 0.0)) & (rank <= high) for low, high in CUTS])


def _exchanged(made: Bools, strata: Integers, permutations: int, rng: np.random.Generator) -> Bools:
    """[1 + B, N] as they are, then exchanged within strata."""
    out = np.tile(made, (1 + permutations, 1))
    for stratum in np.unique(strata):
        at = np.flatnonzero(strata == stratum)
        out[1:, at] = rng.permuted(out[1:, at], axis=1)
    return out


def _standard(sums: Floats, variance: Floats) -> Floats:
    """0 where nothing varies."""
    out: Floats = np.where(variance > 1e-9, sums / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
    return out
