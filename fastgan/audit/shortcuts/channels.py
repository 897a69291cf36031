"""A mark shows in its voxels, in the steps at its edges, and in means: channels of a volume.

A step to the next voxel shows a mark where texture is smooth, a mean of 2^3 where it is noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastgan.arrays import Bools, Floats

__all__ = ["channels", "inside"]


def channels(values: Floats) -> Iterator[Floats]:
    """[N, D, H, W] each: voxels, steps to the next along each axis, means of 2^3; 0 past the end.

    All are linear, so those of a marked volume are its own and those of the mark.
    """
    yield values
    mean = values
    for axis in (1, 2, 3):
        following = np.zeros_like(values)
        following[_but(axis, last=True)] = values[_but(axis, last=False)]
        step = following - values
        step[_end(axis)] = 0.0
        yield step
    for axis in (1, 2, 3):
        following = np.zeros_like(mean)
        following[_but(axis, last=True)] = mean[_but(axis, last=False)]
        mean = (mean + following) / 2
        mean[_end(axis)] = 0.0
    yield mean


def _but(axis: int, *, last: bool) -> tuple[slice, ...]:
    """All but the last, or the first, along an axis."""
    return (slice(None),) * axis + (slice(None, -1) if last else slice(1, None),)


def _end(axis: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(-1, None),)


def inside(region: Bools) -> list[Bools]:
    """[D, H, W] where each channel sees voxels of the region alone."""
    outside = (~region)[None].astype(np.float32)
    out: list[Bools] = [region]
    whole = region.copy()
    for axis in (0, 1, 2):
        beyond = np.zeros_like(region)
        beyond[_but(axis, last=True)] = region[_but(axis, last=False)]
        out.append(region & beyond)
    *_, mean = channels(outside)
    for axis in (0, 1, 2):
        whole[_end(axis)] = False
    return [*out, whole & (mean[0] == 0.0)]
