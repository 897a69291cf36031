"""Marks lie at a fixed place: here are the voxels that differ between scanners, or labels.

Watermarks, burnt-in letters, table edges and dead detector elements sit at the same voxels in every
volume of one scanner. Voxels are tested, their steps and means (`channels`), and the largest
statistic is held against its own permutation distribution: the family-wise error over all is exact,
and every hit is a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.judgement import Table
from fastgan.audit.rules import limit, whole
from fastgan.audit.shortcuts.channels import channels, inside
from fastgan.audit.shortcuts.planted_marks import (
    Place,
    largest_cube,
    mark_of,
    places_of,
    planted_marks,
)
from fastgan.audit.statistics import permutation_p
from fastgan.audit.statistics.group_tests import Groups, centred, standard_contrast

__all__ = ["Marks", "detached", "find_marks", "hit_table", "shell", "varying", "widened"]

LEAST_SHARE = limit("shortcuts.marks.varying_share")
LEAST_VOLUMES = whole("shortcuts.marks.varying_volumes")
"""A voxel is tested if this share of volumes, and this many, differ from its median."""
FAINT = -0.9
"""Values above it belong to a body."""
_CHUNK = 2048
_VOLUMES = 64  # searched for bodies at once


@dataclass(frozen=True)
class Marks:
    """What was found and how much would have been."""

    p: float
    """That no tested voxel differs."""
    largest: float
    """|t|, as observed."""
    maxima: Floats
    """[1 + B] the same of the observed row and the permutations."""
    tested: Bools
    """[D, H, W] voxels that vary."""
    hits: Bools
    """[D, H, W] voxels whose adjusted p is at most alpha; where there is none, those before a step
    or at the corner of a mean of which it is."""
    difference: Floats
    """[D, H, W] mean of the group less that of the others, within strata, in [-1, 1] units; of
    the contrast that is largest."""
    planted_p: dict[tuple[float, float], Floats]
    """(sd, agreement) -> [R] p-values of runs with a planted mark."""
    side: int
    """Voxels along each side of a planted mark."""
    quiet_p: Floats
    """[R] p-values of runs whose groups are permuted and nothing is planted."""


def varying(values: Floats) -> Bools:
    """[D, H, W] voxels in which enough of [N, D, H, W] volumes differ from the median.

    Half of the voxels of masks or more never vary, and where nothing varies nothing differs.
    """
    need = max(LEAST_VOLUMES, LEAST_SHARE * len(values))
    out = np.empty(values.shape[1:], dtype=bool)
    for d in range(values.shape[1]):
        median = np.median(values[:, d], axis=0)
        out[d] = (np.abs(values[:, d] - median) > 0.01).sum(axis=0) >= need
    return out


def shell(shape: tuple[int, ...]) -> Bools:
    """[D, H, W] the outer eighth of each axis, at least two voxels: where lesions rarely are."""
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(w, n - w) for n in shape for w in [max(2, n // 8)])] = True
    return ~inside


def detached(masks: Floats) -> Floats:
    """Masks [N, D, H, W] in [-1, 1] without the body that holds the thickest place: what is left
    is what a segmentation did not draw, such as letters and marks.

    Cost: a few passes over the volumes per voxel of the largest body's extent.
    """
    parts = [masks[i : i + _VOLUMES] for i in range(0, len(masks), _VOLUMES)]
    out: Floats = np.concatenate([_without_body(part) for part in parts]) if parts else masks
    return out


def _without_body(masks: Floats) -> Floats:
    filled = masks > FAINT
    thick = filled.astype(np.int16)
    for axis in (1, 2, 3, 1, 2, 3):  # twice, so that a full cube of a mark is thinner than a body
        thick = thick + np.roll(thick, 1, axis) + np.roll(thick, -1, axis)
    thick[~filled] = 0
    seed = thick.reshape(len(masks), -1).argmax(axis=1)
    body = np.zeros_like(filled)
    body.reshape(len(masks), -1)[np.arange(len(masks)), seed] = True
    body &= filled
    count = -1
    while (now := int(body.sum())) != count:
        count = now
        for axis in (1, 2, 3):
            body = widened(body, axis) & filled
    out: Floats = np.where(body | ~filled, np.float32(-1.0), masks)
    return out


def widened(masks: Bools, axis: int) -> Bools:
    """Masks [N, D, H, W] and the voxels next to them along an axis."""
    masks = np.moveaxis(masks, axis, 0)
    wider = masks.copy()
    wider[1:] |= masks[:-1]
    wider[:-1] |= masks[1:]
    return np.moveaxis(wider, 0, axis)


def find_marks(
    values: Floats,
    groups: Groups,
    region: Bools,
    *,
    permutations: int,
    alpha: float,
    rng: np.random.Generator,
    plants: tuple[tuple[float, float], ...] = (),
) -> Marks:
    """Test every voxel of a region that varies.

    Args:
        values: [N, D, H, W].
        groups: row 0 as observed, then `permutations` rows of the null, then R rows of which each
            is the truth of one control run.
        region: [D, H, W] voxels in question.
        permutations: rows of the null.
        alpha: family-wise level of a hit.
        rng: places and errors of planted marks.
        plants: (height in standard deviations of a voxel, share of volumes in which the mark goes
            with the group) of each series of control runs.

    Raises:
        AuditError: the region has no voxel in which enough volumes differ and nothing is planted.

    Cost: 10 (1 + B + R) N V flops a contrast for V tested voxels; twice the volumes' memory.
    """
    rows, runs = len(groups.codes), len(groups.codes) - 1 - permutations
    side = largest_cube(region)
    marked = [
        Place(mark_of(values, place), region)
        for place in (places_of(region, side, rng) if runs and plants else [])
    ]
    maxima, beside = np.zeros(rows), np.zeros((len(marked), rows))
    each: list[tuple[Integers, Floats]] = []
    for channel, (seen, within) in enumerate(zip(channels(values), inside(region), strict=True)):
        at: Integers = np.flatnonzero(varying(seen) & within)
        flat = seen.reshape(len(values), -1)
        for place in marked:
            place.collect(channel, flat)
        each.append((at, _largest(flat, at, groups, channel, marked, maxima, beside)))
    null = np.sort(maxima[1 : 1 + permutations] * (1 + 1e-6))  # rounding breaks no tie
    hits = np.zeros(region.size, dtype=bool)
    for number, (at, t) in enumerate(each):
        if number == 0 or not hits.any():  # steps and means lie beside what they tell of
            above = len(null) - np.searchsorted(null, np.abs(t), side="left")
            hits[at] = ((1 + above) / (1 + len(null)) <= alpha).any(axis=0)
    p = permutation_p(maxima[0], null)
    tested = np.zeros(region.size, dtype=bool)
    tested[each[0][0]] = True
    planted = {
        plant: planted_marks(groups, marked, beside, plant, permutations, rng) for plant in plants
    }
    return Marks(
        p,
        max((float(np.abs(t).max(initial=0.0)) for _, t in each), default=0.0),
        maxima[: 1 + permutations],
        tested.reshape(region.shape),
        hits.reshape(region.shape),
        _difference(values.reshape(len(values), -1), groups, *each[0]).reshape(region.shape),
        planted if runs else {},
        side,
        np.array([permutation_p(v, null) for v in maxima[1 + permutations :]]),
    )


def _largest(
    flat: Floats,
    at: Integers,
    groups: Groups,
    channel: int,
    marked: list[Place],
    maxima: Floats,
    beside: Floats,
) -> Floats:
    """[contrasts, n] t of the positions; raises the maxima [rows], and those beside each mark."""
    t = np.zeros((len(groups.contrasts), len(at)))
    for line, group in enumerate(groups.contrasts):
        contrast = groups.contrast(group)
        for start in range(0, len(at), _CHUNK):
            part = slice(start, start + _CHUNK)
            standard = standard_contrast(contrast, centred(flat[:, at[part]], groups.strata))
            t[line, part] = standard[0]
            size = np.abs(standard)
            largest = size.max(axis=1)
            np.maximum(maxima, largest, out=maxima)
            for i, place in enumerate(marked):
                apart = ~np.isin(at[part], place.at[channel])
                rest = largest if apart.all() else size[:, apart].max(axis=1, initial=0.0)
                np.maximum(beside[i], rest, out=beside[i])
    return t


def _difference(flat: Floats, groups: Groups, at: Integers, t: Floats) -> Floats:
    out = np.zeros(flat.shape[1], dtype=np.float32)
    each = []
    for group in groups.contrasts:
        contrast = groups.contrast(group)[0]
        spread = float((contrast**2).sum())
        each.append(contrast @ centred(flat[:, at], groups.strata) / max(spread, 1e-12))
    if len(at):
        largest = np.abs(t).argmax(axis=0)
        out[at] = np.stack(each)[largest, np.arange(len(at))]
    return out


def hit_table(marks: Marks, spacing: tuple[float, float, float], most: int = 10) -> Table:
    """Connected hits, the largest first: where, how many voxels, by how much."""
    clusters = sorted(_clusters(marks.hits), key=len, reverse=True)
    rows = []
    for cluster in clusters[:most]:
        centre = (cluster.mean(axis=0) + 0.5) * np.asarray(spacing)
        step = marks.difference[tuple(cluster.T)]
        rows.append(
            (
                ", ".join(f"{c:.1f}" for c in centre),
                len(cluster),
                round(float(step[np.abs(step).argmax()]), 4),
            )
        )
    return Table(
        "Where voxels differ",
        ("centre, mm from the first corner (D, H, W)", "voxels", "largest difference"),
        tuple(rows),
        f"{len(clusters)} connected places, {int(marks.hits.sum())} of {int(marks.tested.sum())} "
        "tested voxels; values run from -1 to 1.",
    )


def _clusters(hits: Bools) -> list[Integers]:
    """Positions [n, 3] of each set of hits joined by faces."""
    left = {tuple(p) for p in np.argwhere(hits).tolist()}
    out = []
    while left:
        front = [left.pop()]
        members = list(front)
        while front:
            d, h, w = front.pop()
            near = ((d + s, h, w) for s in (-1, 1))
            sides = [*near, *((d, h + s, w) for s in (-1, 1)), *((d, h, w + s) for s in (-1, 1))]
            found = [n for n in sides if n in left]
            left.difference_update(found)
            front += found
            members += found
        out.append(np.array(members))
    return out
