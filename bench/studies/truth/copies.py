"""Generated volumes that repeat training ones: near, changed, bent, halved, mixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.studies.truth.volumes import bent, resampled
from bench.studies.truth.worlds import World, labels_of
from fastgan.arrays import Floats
from fastgan.audit.evidence import Cohort, Evidence

__all__ = [
    "CHANGES",
    "changed",
    "elastic",
    "half_copied",
    "interpolated",
    "near_copies",
    "with_copies",
]

Make = Callable[[World], Evidence]
Change = Callable[[Floats, np.random.Generator], Floats]


def _brightness(change: Callable[[Floats], Floats]) -> Change:
    """Of values in [0, 1]."""
    return lambda values, rng: 2 * change((values + 1) / 2) - 1


def _zoomed(values: Floats, rng: np.random.Generator) -> Floats:
    return resampled(values, np.eye(3) / 1.1)


def _rotated(values: Floats, rng: np.random.Generator) -> Floats:
    turn, plane = np.radians(15.0), [(0, 1), (0, 2), (1, 2)][int(rng.integers(3))]
    matrix = np.eye(3)
    matrix[np.ix_(plane, plane)] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return resampled(values, matrix)


CHANGES: dict[str, Change] = {
    "flipped": lambda values, rng: values[:, :, :, ::-1].copy(),
    "gain 0.7": _brightness(lambda share: 0.7 * share),
    "gamma 1.5": _brightness(lambda share: share**1.5),
    "inverted": _brightness(lambda share: 1 - share),
    "zoom 1.1": _zoomed,
    "rotated 15 degrees": _rotated,
}


def with_copies(world: World, count: int, noise: float, change: Change | None = None) -> Cohort:
    """The generated cohort, its first `count` volumes replaced by copies.

    Args:
        world: the data set.
        count: copies, each of a training volume drawn at random.
        noise: white noise as a share of what lies between a held-out and the nearest training one.
        change: done to the copies before noise.
    """
    rng = world.rng("copies")
    made = world.cohort(world.generated, "generated")
    training = world.cohort(world.training, "training")
    source = rng.choice(len(training), count, replace=count > len(training))
    copy = training.values[source]
    if change is not None:
        copy = change(copy, rng)
    length = noise * _typical(world) / np.sqrt(copy[0].size)
    copy = np.clip(copy + length * rng.standard_normal(copy.shape), -1, 1)
    values, labels = made.values.copy(), labels_of(made).copy()
    values[:count], labels[:count] = copy, labels_of(training)[source]
    return replace(made, values=values, labels=labels)


def _typical(world: World) -> float:
    """Median distance of held-out volumes to the nearest training volume."""
    held = world.cohort(world.holdout, "held-out").values.reshape(len(world.holdout.raw), -1)
    known = world.cohort(world.training, "training").values.reshape(len(world.training.raw), -1)
    squares = (
        np.square(held).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * held @ known.T
    )
    return float(np.median(np.sqrt(np.maximum(squares, 0).min(axis=1))))


def near_copies(count: int, noise: float) -> Make:
    """Copies with noise alone."""
    return lambda world: world.evidence(generated=with_copies(world, count, noise))


def changed(name: str, count: int) -> Make:
    """Copies after one of CHANGES, with a little noise of their own."""
    return lambda world: world.evidence(generated=with_copies(world, count, 0.05, CHANGES[name]))


def elastic(count: int) -> Make:
    """Copies bent by a smooth displacement of 4 % of the grid, root mean square."""

    def bend(values: Floats, rng: np.random.Generator) -> Floats:
        size = values.shape[1]
        return resampled(values, displacement=bent(len(values), size, 0.04 * size, rng))

    return lambda world: world.evidence(generated=with_copies(world, count, 0.05, bend))


def half_copied(count: int) -> Make:
    """One half of each copy is a training volume, the other one's nobody has seen."""

    def make(world: World) -> Evidence:
        made = with_copies(world, count, 0.05)
        other = world.cohort(world.generated, "generated").values
        values, half = made.values.copy(), world.setting.size // 2
        values[:count, :, :, half:] = other[:count, :, :, half:]
        return world.evidence(generated=replace(made, values=values))

    return make


def interpolated(count: int) -> Make:
    """Means of two training volumes of one class."""

    def make(world: World) -> Evidence:
        rng = world.rng("pairs")
        made = world.cohort(world.generated, "generated")
        training = world.cohort(world.training, "training")
        values, labels = made.values.copy(), labels_of(made)
        for i in range(count):
            own = np.flatnonzero(labels_of(training) == labels[i])
            first, second = rng.choice(own, 2, replace=False)
            values[i] = (training.values[first] + training.values[second]) / 2
        return world.evidence(generated=replace(made, values=values))

    return make
