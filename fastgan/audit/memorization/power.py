"""How many planted copies does the judgement of memorization find, and where is it quiet?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import Control
from fastgan.audit.likeness.outliers import CopyTest
from fastgan.audit.likeness.searches import Near
from fastgan.audit.memorization.planted_copies import (
    BENT,
    DEFORMED,
    OF_MASKS,
    SAME_POSE,
    changed,
    noisy,
    transformed,
)
from fastgan.audit.memorization.prevalence import Sides, nearest_subject
from fastgan.audit.memorization.search import Searched
from fastgan.audit.memorization.split_by_chance import SPLITS, posing_controls
from fastgan.audit.rules import limit

__all__ = [
    "DECISIVE_SHARE",
    "LEVELS",
    "SHARES",
    "THIRDS",
    "copy_power",
    "deformed_power",
    "nearest_by_search",
    "prevalence_controls",
    "quiet_copies",
]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Noise of planted copies, in typical distances of a held-out volume to training."""

THIRDS = ("smallest third", "middle third", "largest third")
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of the generated set that are replaced by copies."""

DECISIVE_NOISE = limit("memorization.copies.decisive_noise")
DECISIVE_SHARE = limit("memorization.prevalence.decisive_share")


_DECISIVE = (*SAME_POSE, *DEFORMED)


@dataclass(frozen=True)
class CopyPower:
    """Which planted copies were found, one among the generated volumes in each run."""

    noise: dict[float, Bools]
    """Level -> [3, R] by third of size."""
    changes: dict[str, Bools]
    """One of `SAME_POSE` -> [R], with noise of the first level; or a change that moves voxels."""

    def points(self) -> tuple[Control, ...]:
        """Noise first; its first level decides."""
        points = [
            _one_copy(f"with noise {level:g}", found, decisive=level == DECISIVE_NOISE)
            for level, found in self.noise.items()
        ]
        points += [
            _one_copy(f"{kind}, noise {LEVELS[0]:g}", found, decisive=kind in _DECISIVE)
            for kind, found in self.changes.items()
        ]
        return tuple(points)


def _one_copy(how: str, found: Bools, *, decisive: bool = False) -> Control:
    return _planted(f"one copy {how}", found, decisive=decisive)


def _planted(name: str, found: Bools, *, decisive: bool) -> Control:
    """A control that holds where its power surely is what is needed."""
    hits = int(np.count_nonzero(found))
    return controls.found(name, hits, found.size, by="lower bound", decisive=decisive)


def copy_power(
    data: Searched,
    test: CopyTest,
    limit: float,
    options: Options,
    used: tuple[str, ...],
    *,
    mask: bool,
) -> CopyPower:
    """Plant copies of random training volumes, `options.planted` for each point.

    A copy is found where its p-value is at most `limit`: the level of the set over the number of
    generated volumes, as a run replaces one of them. The augmentations that training used, and
    shifts, are planted too.
    """
    rng = options.rng("memorization/planted")
    length = LEVELS[0] * data.typical

    def found(copies: Floats) -> Bools:
        flags: Bools = test.p(data.in_training.isolations(copies)) <= limit
        return flags

    noise = {}
    for level in LEVELS:
        rows = []
        for third in range(len(THIRDS)):
            of = np.flatnonzero(data.size_third == third)
            volumes = rng.choice(of, max(1, options.planted // len(THIRDS)))
            rows.append(found(noisy(data.training[volumes], level * data.typical, rng)))
        noise[level] = np.stack(rows)
    changes = {}
    for kind in OF_MASKS if mask else SAME_POSE:
        volumes, others = _sources(data, options.planted, rng)
        changes[kind] = found(noisy(changed(kind, volumes, others, rng), length, rng))
    for kind in dict.fromkeys(("shift", *used)):
        volumes, _ = _sources(data, options.planted, rng)
        copies = transformed(kind, volumes, rng, data.spacing)
        changes[kind] = found(noisy(copies, length, rng))
    return CopyPower(noise, changes)


def deformed_power(data: Searched, test: CopyTest, limit: float, options: Options) -> CopyPower:
    """The same of copies whose voxels were moved."""
    rng = options.rng("memorization/planted-deformed")
    changes = {}
    for kind in (*DEFORMED, BENT):
        volumes, others = _sources(data, options.planted, rng)
        copies = changed(kind, volumes, others, rng)
        near = data.in_training.search(noisy(copies, LEVELS[0] * data.typical, rng))
        changes[kind] = test.p(near.isolations_deformed()) <= limit
    return CopyPower({}, changes)


def _sources(data: Searched, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Training volumes at random, and held-out ones."""
    of = rng.integers(len(data.training), size=count)
    return data.training[of], data.holdout[rng.integers(len(data.holdout), size=count)]


def quiet_copies(
    data: Searched, of: Callable[[Near], tuple[Floats, ...]], options: Options
) -> Control:
    """The held-out subjects pose as generated; the training volumes are the null.

    It holds unless they raise an alarm and look more like copies than after every one of 99 random
    splits of the same subjects: a single outlying patient is one on whichever side it lies.
    """
    rng = options.rng("memorization/posing")
    values = data.null(of)
    subject = np.concatenate(
        [data.n_training + data.holdout_subject, data.training_subject[data.left_out]]
    )
    total = data.n_training + data.n_holdout

    def p(held: Integers) -> float:
        posing = np.isin(subject, held)
        if posing.all() or not posing.any():
            return 1.0
        test = CopyTest.fit([u[~posing] for u in values], least=1)
        return test.p_any([u[posing] for u in values])

    mine = p(np.arange(data.n_training, total))
    alarm = mine <= options.alpha and all(
        mine < p(rng.permutation(total)[: data.n_holdout]) for _ in range(SPLITS)
    )
    name = f"held-out volumes posing as generated, more than after {SPLITS} random splits"
    return controls.quiet(name, int(alarm), 1, at_most=0.0, by="rate")


def prevalence_controls(
    data: Searched, sides: Sides, options: Options
) -> tuple[tuple[Control, ...], tuple[float, ...]]:
    """Shares of copies, then held-out and training subjects that pose as generated.

    And by each of `nearest_by_search`, the share of mirrored copies nearest to a training subject.
    """
    points, seen = _copied_shares(data, sides, options)
    return (*points, *posing_controls(data, options)), seen


def _copied_shares(
    data: Searched, sides: Sides, options: Options
) -> tuple[list[Control], tuple[float, ...]]:
    rng = options.rng("memorization/mirrored")
    made = nearest_by_search(data, data.of_generated, data.of_generated_held)
    points: list[Control] = []
    seen: tuple[float, ...] = ()
    for kind, shares in (("mirrored", SHARES), (BENT, (DECISIVE_SHARE, 1.0))):
        volumes, others = _sources(data, options.planted, rng)
        copies = noisy(changed(kind, volumes, others, rng), LEVELS[0] * data.typical, rng)
        copied = nearest_by_search(
            data, data.in_training.search(copies, 1), data.in_holdout.search(copies, 1)
        )
        seen = seen or tuple(float(trained.mean()) for _, trained in copied)
        for share in shares:
            found = np.zeros(options.planted, bool)
            for run in range(options.planted):
                count = len(made[0][0])
                replaced = rng.permutation(count)[: round(share * count)]
                drawn = rng.integers(options.planted, size=len(replaced))
                p = []
                for ours, theirs in zip(made, copied, strict=True):
                    subject, trained = ours[0].copy(), ours[1].copy()
                    subject[replaced], trained[replaced] = theirs[0][drawn], theirs[1][drawn]
                    p.append(sides.p(subject, trained))
                found[run] = len(p) * min(p) <= controls.power_level(options.alpha)
            name = f"{share:.0%} of the volumes copies, {kind}, noise {LEVELS[0]:g}"
            decisive = share == (1.0 if kind == BENT else DECISIVE_SHARE)
            points.append(_planted(name, found, decisive=decisive))
    return points, seen


def nearest_by_search(
    data: Searched, in_training: Near, in_holdout: Near
) -> list[tuple[Integers, Bools]]:
    """Nearest subject and whether it is a training subject: by voxels, then by local contrast.

    With mirror images; by local contrast turned and zoomed, too.
    """
    pairs = (
        (in_training.mirrored, in_holdout.mirrored),
        (in_training.posed, in_holdout.posed),
    )
    return [
        nearest_subject(
            training.distance[:, 0],
            data.training_subject[training.index[:, 0]],
            held.distance[:, 0],
            data.holdout_subject[held.index[:, 0]],
        )
        for training, held in pairs
    ]
