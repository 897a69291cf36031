"""How much of a set is copied? It is asked whose patients lie nearest to generated volumes.

Without copying, it makes no difference to a generated volume which patients were in the training
set and which were held out: were the two exchanged at random, each would be nearest as often as its
number says. That holds for a generator that draws too little variety, or misses a part of the
patients, or draws badly; it fails as soon as volumes are drawn near those that were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.statistics import bootstrap_interval, permutation_p
from fastgan.errors import AuditError

__all__ = ["Sides", "nearest_subject"]


def nearest_subject(
    to_training: Floats, training: Integers, to_holdout: Floats, holdout: Integers
) -> tuple[Integers, Bools]:
    """Of each volume, the subject nearest to it and whether that is a training subject.

    Args:
        to_training: [N] distance to the nearest training volume.
        training: [N] its subject's number.
        to_holdout: [N] distance to the nearest held-out volume; a tie counts as held out.
        holdout: [N] its subject's number.
    """
    trained = np.asarray(to_training) < np.asarray(to_holdout)
    return np.where(trained, training, holdout), trained


@dataclass(frozen=True)
class Sides:
    """Training and held-out subjects, and random exchanges of the two.

    Training subjects have numbers 0 to n_training - 1, held-out ones 0 to n_holdout - 1.
    """

    n_training: int
    n_holdout: int
    exchanged: Floats
    """[B, n_training + n_holdout] 1 where a subject counts as training."""

    @staticmethod
    def draw(n_training: int, n_holdout: int, rng: np.random.Generator, count: int) -> Sides:
        """With `count` random exchanges.

        Raises:
            AuditError: a side without subjects.
        """
        if min(n_training, n_holdout) < 1:
            raise AuditError(
                f"prevalence: needs subjects on both sides, got {n_training} and {n_holdout}"
            )
        status = np.zeros(n_training + n_holdout, np.float32)
        status[:n_training] = 1.0
        return Sides(n_training, n_holdout, rng.permuted(np.tile(status, (count, 1)), axis=1))

    def share(self, trained: Bools | Floats) -> float:
        """Share of volumes nearest to training, as if both sides had as many subjects.

        1/2 + (q - e) / (2 (1 - e)) of the share q of volumes nearest to a training subject and
        e = n_training / (n_training + n_holdout), its expectation without copying: 1/2 then, and 1
        where every volume is nearest to training. If a share c is copied and the rest is not, the
        expectation is 1/2 + c/2.
        """
        expected = self.n_training / (self.n_training + self.n_holdout)
        return 0.5 + (float(np.mean(trained)) - expected) / (2 * (1 - expected))

    def patients(self, subject: Integers, trained: Bools) -> float:
        """As how many equally frequent nearest subjects they count: the units of an interval."""
        place = np.where(trained, subject, subject + self.n_training)
        share = np.bincount(place) / len(place)
        return float(1 / np.square(share).sum())

    def p(self, subject: Integers, trained: Bools) -> float:
        """p-value of so large a share, by exchanging training and held-out subjects.

        Exact where the split was drawn at random over subjects. Volumes that share their nearest
        subject count as one unit.
        """
        place = np.where(trained, subject, subject + self.n_training)
        counts = np.bincount(place, minlength=self.n_training + self.n_holdout)
        return float(self.p_of_counts(counts[None].astype(np.float32))[0])

    def p_of_counts(self, counts: Floats) -> Floats:
        """The same of several sets, from how often each subject was nearest.

        Args:
            counts: [R, n_training + n_holdout] float32; sums are exact up to 2^24 volumes.
        """
        seen = counts[:, : self.n_training].sum(axis=1)
        null = self.exchanged @ counts.T
        return np.array([permutation_p(s, n) for s, n in zip(seen, null.T, strict=True)])

    def interval(
        self, subject: Integers, trained: Bools, rng: np.random.Generator, draws: int
    ) -> tuple[float, float]:
        """95 % interval of `share`, with the nearest subjects as units.

        Raises:
            AuditError: all volumes have one nearest subject.
        """
        unit = np.where(trained, subject, subject + self.n_training)
        low, high = bootstrap_interval(lambda drawn: self.share(trained[drawn]), unit, rng, draws)
        return low, high
