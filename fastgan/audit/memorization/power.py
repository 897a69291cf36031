"""How many planted copies does the judgement of memorization find, and where is it quiet?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import Control
from fastgan.audit.memorization.outliers import CopyTest
from fastgan.audit.memorization.planted_copies import TRANSFORMS, noisy, transformed
from fastgan.audit.memorization.prevalence import Sides, nearest_subject
from fastgan.audit.memorization.search import Pair, Searched, isolations
from fastgan.audit.memorization.split_by_chance import posing_controls
from fastgan.audit.rules import limit

__all__ = [
    "DECISIVE_SHARE",
    "LEVELS",
    "SHARES",
    "THIRDS",
    "copy_power",
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


@dataclass(frozen=True)
class CopyPower:
    """Which planted copies were found, one among the generated volumes in each run."""

    noise: dict[float, Bools]
    """Level -> [3, R] by third of size."""
    transforms: dict[str, Bools]
    """One of `TRANSFORMS` -> [R], with noise of the first level."""

    def points(self) -> tuple[Control, ...]:
        """Noise first; its first level decides."""
        points = [
            _one_copy(f"with noise {level:g}", found, decisive=level == DECISIVE_NOISE)
            for level, found in self.noise.items()
        ]
        points += [
            _one_copy(f"after {kind}, noise {LEVELS[0]:g}", found)
            for kind, found in self.transforms.items()
        ]
        return tuple(points)


def _one_copy(how: str, found: Bools, *, decisive: bool = False) -> Control:
    return _planted(f"one copy {how}", found, decisive=decisive)


def _planted(name: str, found: Bools, *, decisive: bool) -> Control:
    """A control that holds where its power surely is what is needed."""
    hits = int(np.count_nonzero(found))
    return controls.found(name, hits, found.size, by="lower bound", decisive=decisive)


def copy_power(
    data: Searched, test: CopyTest, limit: float, planted: int, rng: np.random.Generator
) -> CopyPower:
    """Plant copies of random training volumes, `planted` for each point.

    A copy is found where its p-value is at most `limit`: the level of the set over the number of
    generated volumes, as a run replaces one of them.
    """

    def found(copies: Floats) -> Bools:
        flags: Bools = test.p(isolations(data.in_training.search(copies))) <= limit
        return flags

    noise = {}
    for level in LEVELS:
        rows = []
        for third in range(len(THIRDS)):
            volumes = rng.choice(np.flatnonzero(data.size_third == third), planted)
            rows.append(found(noisy(data.training[volumes], level * data.typical, rng)))
        noise[level] = np.stack(rows)
    transforms = {}
    for kind in TRANSFORMS:
        volumes = data.training[rng.integers(len(data.training), size=planted)]
        changed = transformed(kind, volumes, rng, data.spacing)
        transforms[kind] = found(noisy(changed, LEVELS[0] * data.typical, rng))
    return CopyPower(noise, transforms)


def quiet_copies(data: Searched, options: Options) -> Control:
    """Random halves of the held-out subjects pose as generated; the others are the null.

    The halves are drawn from one set and overlap, so the interval is too narrow.
    """
    rng = options.rng("memorization/posing")
    held, trained = isolations(data.of_holdout), isolations(data.of_training)
    alarms = np.zeros(options.planted, bool)
    for run in range(options.planted):
        posing = np.isin(data.holdout_subject, _half(data.n_holdout, rng))
        null = [np.concatenate([h[~posing], t]) for h, t in zip(held, trained, strict=True)]
        alarms[run] = CopyTest.fit(null).p_any([h[posing] for h in held]) <= options.alpha
    name = "held-out volumes posing as generated"
    hits = int(np.count_nonzero(alarms))
    return controls.quiet(name, hits, len(alarms), at_most=options.alpha)


def prevalence_controls(data: Searched, sides: Sides, options: Options) -> tuple[Control, ...]:
    """Shares of mirrored copies, then held-out and training subjects that pose as generated."""
    return (*_mirrored_shares(data, sides, options), *posing_controls(data, options))


def _mirrored_shares(data: Searched, sides: Sides, options: Options) -> list[Control]:
    rng = options.rng("memorization/mirrored")
    volumes = data.training[rng.integers(len(data.training), size=options.planted)]
    copies = transformed("flip", volumes, rng, data.spacing)
    copies = noisy(copies, LEVELS[0] * data.typical, rng)
    copied = _nearest(data, data.in_training.search(copies, 1), data.in_holdout.search(copies, 1))
    made = _nearest(data, data.of_generated, (data.of_generated_held,) * 2)
    points = []
    for share in SHARES:
        found = np.zeros(options.planted, bool)
        for run in range(options.planted):
            replaced = rng.permutation(len(made[0]))[: round(share * len(made[0]))]
            drawn = rng.integers(len(copied[0]), size=len(replaced))
            subject, trained = made[0].copy(), made[1].copy()
            subject[replaced], trained[replaced] = copied[0][drawn], copied[1][drawn]
            found[run] = sides.p(subject, trained) <= controls.power_level(options.alpha)
        name = f"{share:.0%} of the volumes mirrored copies, noise {LEVELS[0]:g}"
        points.append(_planted(name, found, decisive=share == DECISIVE_SHARE))
    return points


def _nearest(data: Searched, in_training: Pair, in_holdout: Pair) -> tuple[Integers, Bools]:
    """Nearest subject and whether it is a training subject, by the search with mirror images."""
    return nearest_subject(
        in_training[1].distance[:, 0],
        data.training_subject[in_training[1].index[:, 0]],
        in_holdout[1].distance[:, 0],
        data.holdout_subject[in_holdout[1].index[:, 0]],
    )


def _half(subjects: int, rng: np.random.Generator) -> Integers:
    return rng.permutation(subjects)[: max(1, subjects // 2)]
