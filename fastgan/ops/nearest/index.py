"""Targets prepared for many searches: volumes are ruled out by coarse versions of themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.ops.checks import require
from fastgan.ops.implementations import dispatch
from fastgan.ops.implementations.cpu import nearest as native
from fastgan.ops.nearest.search import (
    Groups,
    check_enough,
    check_groups,
    check_rows,
    nearest,
    report_bad,
)

__all__ = ["NearestIndex", "Neighbours", "Transform"]

# A pyramid costs less to build than this many searches of the same targets by brute force in a
# batch: 202 at most where it was measured. bench/nearest.py prints the count.
_QUERIES_FROM = 256
# A call of fewer queries may build it once it costs no more than this share of what brute force
# has cost so far: `auto` is to be no slower at any time, not only in the end.
_MOST_AHEAD = 0.05
# Queries that are tried with the pyramid before all are, and the share of the data that they may
# read: beyond it multiplying all pairs in a batch costs less than reading a part one by one.
_TRIED, _MOST_READ = 8, 0.05
# Before the pyramid is built, a few queries are tried on a part of the targets. They read a larger
# share there, as the nearest is farther off.
_PART, _LEAST_PART, _TRIED_ON_PART, _MOST_READ_OF_PART = 32, 32, 4, 0.25


class Transform(NamedTuple):
    """Where a query was cut out and which of its axes were flipped before that."""

    shift: tuple[int, int, int]  # voxels of D, H, W that the query is moved by
    flip: tuple[bool, bool, bool]


@dataclass(frozen=True)
class Neighbours:
    """Result of a search in an index."""

    distance: Tensor  # [N, k] float64
    index: Tensor  # [N, k] int64
    read: float  # numbers read, as a share of all voxels of all allowed pairs
    transform: list[list[Transform]] | None = None  # [N][k], of a search that has some


class NearestIndex:
    """Targets that are searched more than once, exactly.

    For blocks B of n voxels with means and standard deviations,
    |x - y|^2 >= sum_B n [(mean_x - mean_y)^2 + (sd_x - sd_y)^2]: a target whose coarse version is
    too far is never read in full. Blocks have sides of 32, 16, ... 2 voxels, and the most promising
    target is looked at first.

    Args:
        target: [M, ..., D, H, W] volumes, or [M, F] vectors, for which there is no pyramid. Kept,
            not copied, where contiguous; must not change while the index lives.
        method: "pyramid", "brute", or "auto": the pyramid from the first call of 256 queries on, or
            once some thousands have come in smaller ones, unless the first queries of it read too
            much; then brute force from there on.

    Raises:
        ConfigError: an unknown method; a pyramid for what has none, or on a device without one.

    Returns:
        an index, with `search` and `search_transformed`.

    Derivatives: none.
    Deterministic: yes, independent of thread count; distances and indices also of how queries are
        split over calls.
    Cost: nothing until a search uses the pyramid, then one read of target and up to 1.2 bytes a
        voxel.

    >>> volumes = torch.arange(128.0).reshape(2, 4, 4, 4)
    >>> NearestIndex(volumes).search(volumes[1:] + 1).index
    tensor([[1]])
    """

    def __init__(self, target: Tensor, *, method: str = "auto") -> None:
        op = "NearestIndex"
        require(method in ("auto", "pyramid", "brute"), op, "method must be known", method)
        check_rows(target, target)
        self.target = target.detach().contiguous()
        self.method = method
        obstacle = self._obstacle()
        if method == "pyramid":
            require(obstacle is None, op, f"there is no pyramid: {obstacle}", list(target.shape))
        self._pyramid: tuple[Tensor, Tensor, Tensor] | None = None
        self._pays: bool | None = None  # known after the first try
        self._by_force = 0  # queries so far that the whole data were read for

    def search(self, query: Tensor, k: int = 1, *, exclude: Groups | None = None) -> Neighbours:
        """The k targets nearest to every query; see `fastgan.ops.nearest`, whose result it is.

        Args:
            query: [N, ...], shape (beyond N), dtype and device of the targets.
            k: neighbours for each query.
            exclude: group numbers of the queries [N] and of the targets [M].

        Raises:
            ConfigError: as `nearest`.
        """
        check_rows(query, self.target)
        require(1 <= k <= len(self.target), "nearest", f"k must be 1 to M = {len(self.target)}", k)
        groups = None if exclude is None else check_groups(exclude, query, len(self.target))
        if self.method == "pyramid":
            return self._by_pyramid(query, k, groups)
        if self.method == "brute" or not self._worth_trying(query, k):
            return self._brute(query, k, groups)
        tried = self._by_pyramid(query[:_TRIED], k, _part(groups, slice(0, _TRIED)))
        rest, rest_groups = query[_TRIED:], _part(groups, slice(_TRIED, None))
        if not len(rest):
            return tried
        self._pays = tried.read <= _MOST_READ
        more = self._by_pyramid if self._pays else self._brute
        others = more(rest, k, rest_groups)
        share = (tried.read * _TRIED + others.read * len(rest)) / len(query)
        distance = torch.cat((tried.distance, others.distance))
        return Neighbours(distance, torch.cat((tried.index, others.index)), share)

    def search_transformed(
        self,
        query: Tensor,
        k: int = 1,
        *,
        shift: int = 2,
        flips: bool = False,
        exclude: Groups | None = None,
    ) -> Neighbours:
        """The k targets nearest to any shifted (and flipped) version of every query.

        The targets' central parts, `shift` voxels smaller on every side, are compared with all
        (2 shift + 1)^3 parts of the query of that size, and with those of its 8 flips.

        Args:
            query: [N, ..., D, H, W], each side longer than 2 shift.
            k: neighbours for each query: different targets, each with its best transform.
            shift: largest number of voxels along each axis.
            flips: whether to try all flips of D, H and W.
            exclude: as in `search`.

        Returns:
            distance and index [N, k], exact over the searched set; of equally near targets the
            first, of equally good transforms the first in the order of `transforms`; transform.

        Raises:
            ConfigError: as `nearest`; volumes too small for the shift.

        Cost: that of 125 (shift 2) or 1,000 (and flips) queries for each.
        """
        op = "NearestIndex"
        sides = self.target.shape[-3:]
        volumes = self.target.dim() >= 4
        require(volumes, op, "shifts need volumes [M, ..., D, H, W]", list(self.target.shape))
        fits = shift >= 0 and min(sides) > 2 * shift
        require(fits, op, f"shift must be >= 0 and below half of {list(sides)}", shift)
        check_rows(query, self.target)
        center = NearestIndex(_cut(self.target, (0, 0, 0), shift), method=self.method)
        known = list(transforms(shift, flips))
        best: Neighbours | None = None
        which = torch.zeros(0)
        read = 0.0
        for number, transform in enumerate(known):
            found = center.search(_transformed(query, transform, shift), k, exclude=exclude)
            read += found.read
            numbers = torch.full_like(found.index, number)
            if best is None:
                best, which = found, numbers
            else:
                best, which = _merged(best, which, found, numbers, k)
        assert best is not None
        names = [[known[int(i)] for i in row] for row in which]
        return Neighbours(best.distance, best.index, read / len(known), names)

    def _obstacle(self) -> str | None:
        if self.target.dim() < 4:
            return "it needs volumes [M, ..., D, H, W]"
        if min(self.target.shape[-3:]) < 2:
            return "it needs two voxels along each axis"
        return native.supports(self.target.flatten(1))

    def _worth_trying(self, query: Tensor, k: int) -> bool:
        chosen = dispatch.choose("nearest", self.target.flatten(1)) == "native"
        if self._pays is False or not chosen or self._obstacle() is not None:
            return False
        if self._pyramid is not None:
            return True
        if len(query) + _MOST_AHEAD * self._by_force < _QUERIES_FROM:
            return False
        # Of small numbers of targets all are a part.
        step = min(_PART, len(self.target) // max(_LEAST_PART, k))
        if step > 1:
            part = NearestIndex(self.target[::step], method="pyramid")
            self._pays = part._searched(query[:_TRIED_ON_PART], k, None)[2] <= _MOST_READ_OF_PART
        return self._pays is not False

    def _brute(self, query: Tensor, k: int, groups: Groups | None) -> Neighbours:
        self._by_force += len(query)
        return Neighbours(*nearest(query, self.target, k, exclude=groups), 1.0)

    def _by_pyramid(self, query: Tensor, k: int, groups: Groups | None) -> Neighbours:
        squared, index, read, bad_query, bad_target = self._searched(query, k, groups)
        report_bad(bad_query, bad_target)
        check_enough(k, bad_query, bad_target, groups)
        return Neighbours(squared.sqrt(), index, read)

    def _searched(
        self, query: Tensor, k: int, groups: Groups | None
    ) -> tuple[Tensor, Tensor, float, Tensor, Tensor]:
        """Squared distances, indices, the share read, bad queries and bad targets."""
        shape = self._volume()
        if self._pyramid is None:
            self._pyramid = native.nearest_pyramid_build(self.target.flatten(1), shape)
        rows = query.detach().flatten(1).contiguous()
        own = native.nearest_pyramid_build(rows, shape)
        squared, index, read = native.nearest_pyramid(
            rows, self.target.flatten(1), own, self._pyramid, shape, k, groups
        )
        share = float(read.sum()) / (len(rows) * self.target.numel())
        return squared, index, share, own[2], self._pyramid[2]

    def _volume(self) -> tuple[int, int, int, int]:
        *rest, d, h, w = self.target.shape[1:]
        return int(torch.Size(rest).numel()), d, h, w


def transforms(shift: int, flips: bool) -> Iterator[Transform]:
    """All transforms, no flip and no shift first, small shifts before large ones."""
    steps, turns = range(-shift, shift + 1), (False, True) if flips else (False,)
    moves = sorted(
        itertools.product(steps, steps, steps),
        key=lambda move: (sum(map(abs, move)), move),
    )
    for flip in itertools.product(turns, turns, turns):
        for move in moves:
            yield Transform(move, flip)


def _transformed(query: Tensor, transform: Transform, shift: int) -> Tensor:
    """The part of the flipped query that lies where the targets' centers are, once moved."""
    axes = [axis for axis, flip in zip((-3, -2, -1), transform.flip, strict=True) if flip]
    return _cut(query.flip(axes) if axes else query, transform.shift, shift)


def _cut(volumes: Tensor, move: tuple[int, int, int], margin: int) -> Tensor:
    """All but a margin, of volumes that were moved before."""
    for axis, step in zip((-3, -2, -1), move, strict=True):
        volumes = volumes.narrow(axis, margin - step, volumes.shape[axis] - 2 * margin)
    return volumes


def _merged(
    best: Neighbours, which: Tensor, found: Neighbours, number: Tensor, k: int
) -> tuple[Neighbours, Tensor]:
    """The k best of both, each target once, sorted by distance, index and transform."""
    distance = torch.cat((best.distance, found.distance), dim=1)
    index = torch.cat((best.index, found.index), dim=1)
    which = torch.cat((which, number), dim=1)
    # A target that comes twice keeps its smaller distance; the earlier transform on ties.
    same = index[:, :, None] == index[:, None, :]
    closer = distance[:, None, :] < distance[:, :, None]
    earlier = (distance[:, None, :] == distance[:, :, None]) & (which[:, None] < which[:, :, None])
    beaten = (same & (closer | earlier)).any(dim=2) & (index >= 0)
    distance = distance.masked_fill(beaten, torch.inf)
    order = index.argsort(dim=1, stable=True)
    distance, index, which = (t.gather(1, order) for t in (distance, index, which))
    # Stable: equally near targets stay in their order; NaN of bad queries stays last.
    order = distance.argsort(dim=1, stable=True)[:, :k]
    distance, index, which = (t.gather(1, order) for t in (distance, index, which))
    return Neighbours(distance, index, best.read), which


def _part(groups: Groups | None, rows: slice) -> Groups | None:
    return None if groups is None else (groups[0][rows], groups[1])
