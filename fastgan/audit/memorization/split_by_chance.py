"""Is the split into training and held-out patients one of chance? These controls copy nothing.

Patients of one side pose as generated, and it is asked how much of them is copied. Where the split
was drawn at random they raise alarms no more often than after other random splits of the same
patients. A fixed share of alarms would be no limit: all runs share the split, so by chance it may
raise alarms in many of them or in none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Integers
from fastgan.audit import controls
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import Control
from fastgan.audit.likeness.copy_search import Found
from fastgan.audit.memorization.prevalence import Sides
from fastgan.audit.memorization.search import Searched
from fastgan.audit.rules import whole

__all__ = ["SPLITS", "Neighbourhood", "posing_controls"]

# More alarms than after all of these have a probability of 1 %: a whole audit has some twenty
# controls like this, and at 1 in 20 one of them would cry wolf in most.
SPLITS = whole("memorization.prevalence.splits")
_UNKNOWN = -1


@dataclass(frozen=True)
class Neighbourhood:
    """The subjects nearest to volumes of both sides, whichever side they are on.

    Training subjects have numbers 0 to n_training - 1, held-out ones those that follow.
    """

    own: Integers
    """[V] the subject of each volume."""
    near: Integers
    """[V, K] subjects of its neighbours of other subjects, nearest first; -1 where unknown."""
    n_training: int
    n_holdout: int

    @staticmethod
    def of(data: Searched) -> Neighbourhood:
        """From the searches that were made, with mirror images."""
        held = data.n_training + data.holdout_subject
        own = np.concatenate([data.training_subject[data.left_out], held])
        parts = [
            _merged(
                data.of_training.mirrored,
                data.of_training_held.mirrored,
                data.training_subject,
                held,
            ),
            _merged(
                data.of_holdout.mirrored, data.of_holdout_held.mirrored, data.training_subject, held
            ),
        ]
        width = max(part.shape[1] for part in parts)
        padded = [
            np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=_UNKNOWN)
            for part in parts
        ]
        return Neighbourhood(own, np.concatenate(padded), data.n_training, data.n_holdout)

    def alarm_rate(
        self,
        training: Bools,
        posing: Bools,
        runs: int,
        options: Options,
        rng: np.random.Generator,
    ) -> float:
        """Share of runs in which subjects of one side, posing as generated, raise an alarm.

        Args:
            training: [n_training + n_holdout] the subjects that count as training.
            posing: [n_training + n_holdout] the side that poses; in each run as many of it as half
                of the held-out subjects or, if these are fewer, a quarter of the training ones.
            runs: at least 1.
            options: `alpha` and `permutations`.
            rng: random numbers.
        """
        side = np.flatnonzero(posing)
        count = max(1, min(self.n_holdout // 2, self.n_training // 4))
        gone_training = count if training[side[0]] else 0
        left = self.n_training - gone_training, self.n_holdout - (count - gone_training)
        weights = np.zeros((runs, sum(left)), np.float32)
        for run in range(runs):
            away = np.zeros(len(training), bool)
            away[rng.permutation(side)[:count]] = True
            place = np.empty(len(training), np.int64)
            kept = np.concatenate(
                [np.flatnonzero(training & ~away), np.flatnonzero(~training & ~away)]
            )
            place[kept] = np.arange(len(kept))
            near = self.near[away[self.own]]
            stays = (near != _UNKNOWN) & ~away[near]
            first = near[np.arange(len(near)), stays.argmax(axis=1)][stays.any(axis=1)]
            weights[run] = np.bincount(place[first], minlength=len(kept))
        sides = Sides.draw(*left, rng, options.permutations)
        return float(np.mean(sides.p_of_counts(weights) <= options.alpha))


def posing_controls(data: Searched, options: Options) -> tuple[Control, Control]:
    """Held-out subjects, then training subjects, posing as generated.

    Each holds unless it raises more alarms than every one of 99 random splits of the same subjects.
    Of training volumes only those in `Searched.left_out` pose, whichever side a split puts them on.
    """
    around = Neighbourhood.of(data)
    training = np.arange(data.n_training + data.n_holdout) < data.n_training
    posed = []
    for name, who in (("held-out", False), ("training", True)):
        rng = options.rng(f"memorization/{name}-posing")
        rate = around.alarm_rate(training, training == who, options.planted, options, rng)
        by_chance = []
        for _ in range(SPLITS):
            split = rng.permutation(training)
            by_chance.append(around.alarm_rate(split, split == who, options.planted, options, rng))
        hits = round(rate * options.planted)
        said = (
            f"{name} subjects, left out, posing as generated (after {SPLITS} random splits, "
            f"alarms in up to {max(by_chance):.0%})"
        )
        posed.append(controls.quiet(said, hits, options.planted, at_most=max(by_chance), by="rate"))
    return posed[0], posed[1]


def _merged(in_training: Found, in_holdout: Found, training: Integers, held: Integers) -> Integers:
    """Subjects [N, K] of the neighbours in both, nearest first, as far as both lists reach."""
    distance = np.concatenate([in_holdout.distance, in_training.distance], axis=1)
    subject = np.concatenate([held[in_holdout.index], training[in_training.index]], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")
    # Beyond the end of the shorter list, a volume that was not looked up may be nearer.
    reach = np.minimum(in_holdout.distance[:, -1], in_training.distance[:, -1])[:, None]
    inside = np.take_along_axis(distance, order, axis=1) <= reach
    return np.where(inside, np.take_along_axis(subject, order, axis=1), _UNKNOWN)
