"""What the judgement of memorization finds of copies that were planted, and where it is quiet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastgan.audit.evidence import Options
from fastgan.audit.judgement import Control
from fastgan.audit.memorization.outliers import CopyTest
from fastgan.audit.memorization.planting import TRANSFORMS, noisy, transformed
from fastgan.audit.memorization.prevalence import Sides, nearest_subject
from fastgan.audit.memorization.search import Pair, Searched, isolations
from fastgan.audit.memorization.split_by_chance import posing_controls
from fastgan.audit.statistics import clopper_pearson

__all__ = [
    "DECISIVE_SHARE",
    "LEVELS",
    "NEEDED_POWER",
    "SHARES",
    "THIRDS",
    "copy_power",
    "prevalence_controls",
    "quiet_copies",
    "strict",
]

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Noise of planted copies, in typical distances of a held-out volume to training."""

THIRDS = ("smallest third", "middle third", "largest third")
SHARES = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of the generated set that are replaced by copies."""

DECISIVE_SHARE = 0.5

NEEDED_POWER = 0.8
"""Lower bound of the power at which a positive control holds."""

# Holm's correction over up to this many tests never asks for a smaller p.
_TESTS = 20


def strict(alpha: float) -> float:
    """The p-value that counts as found in a positive control: alpha over 20 tests."""
    return alpha / _TESTS


def outcome(
    name: str, found: Flags, expected: str, alpha: float, *, decisive: bool = False
) -> Control:
    """A control from its runs [R]: found or quiet in each."""
    hits = int(np.count_nonzero(found))
    interval = clopper_pearson(hits, len(found))
    if expected == "found":
        held = interval[0] >= NEEDED_POWER
        return Control(name, "found", hits / len(found), interval, len(found), held, decisive)
    held = interval[0] <= alpha
    return Control(name, "quiet", hits / len(found), interval, len(found), held, decisive)


@dataclass(frozen=True)
class CopyPower:
    """Which planted copies were found, one among the generated volumes in each run."""

    noise: dict[float, Flags]
    """Level -> [3, R] by third of size."""
    transforms: dict[str, Flags]
    """One of `TRANSFORMS` -> [R], with noise of the first level."""

    def controls(self, alpha: float) -> tuple[Control, ...]:
        """Noise first; its first level decides."""
        points = [
            outcome(
                f"one copy with noise {level:g}",
                found.ravel(),
                "found",
                alpha,
                decisive=level == LEVELS[0],
            )
            for level, found in self.noise.items()
        ]
        points += [
            outcome(f"one copy after {kind}, noise {LEVELS[0]:g}", found, "found", alpha)
            for kind, found in self.transforms.items()
        ]
        return tuple(points)


def copy_power(
    data: Searched, test: CopyTest, limit: float, planted: int, rng: np.random.Generator
) -> CopyPower:
    """Plant copies of random training volumes, `planted` for each point.

    A copy is found where its p-value is at most `limit`: the level of the set over the number of
    generated volumes, as a run replaces one of them.
    """

    def found(copies: Floats) -> Flags:
        flags: Flags = test.p(isolations(data.in_training.search(copies))) <= limit
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
    return outcome(name, alarms, "quiet", options.alpha, decisive=True)


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
            found[run] = sides.p(subject, trained) <= strict(options.alpha)
        name = f"{share:.0%} of the volumes mirrored copies, noise {LEVELS[0]:g}"
        points.append(
            outcome(name, found, "found", options.alpha, decisive=share == DECISIVE_SHARE)
        )
    return points


def _nearest(
    data: Searched, in_training: Pair, in_holdout: Pair
) -> tuple[NDArray[np.integer], Flags]:
    """Nearest subject and whether it is a training subject, by the search with mirror images."""
    return nearest_subject(
        in_training[1].distance[:, 0],
        data.training_subject[in_training[1].index[:, 0]],
        in_holdout[1].distance[:, 0],
        data.holdout_subject[in_holdout[1].index[:, 0]],
    )


def _half(subjects: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(subjects)[: max(1, subjects // 2)]
