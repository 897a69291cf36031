"""What each arm trains on: which volumes are drawn how often, and how they are altered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from fastgan.arrays import Bools, Floats, Integers
from fastgan.data.augment import Strength, augment
from fastgan.utility.settings import Arm, Study

__all__ = ["WEIGHT_DECAY", "Diet", "diet_of", "strength"]

WEIGHT_DECAY = 0.05


@dataclass(frozen=True)
class Diet:
    """Volumes to train on, and how they are drawn.

    Attributes:
        values: [N, C, D, H, W] real ones, then generated ones.
        positive: [N].
        generated: [N].
        share: of generated volumes among those drawn.
        positives: share of positive volumes among the real ones drawn; of generated ones half.
        classic: kinds of augmentation; with `factor` on their strength.
        weight_decay: of the optimiser.
    """

    values: Floats
    positive: Bools
    generated: Bools
    share: float
    positives: float
    classic: tuple[str, ...] = ()
    factor: float = 1.0
    weight_decay: float = WEIGHT_DECAY
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def drawn_prior(self) -> float:
        """Share of positive volumes among all drawn."""
        return (1.0 - self.share) * self.positives + self.share * 0.5

    def order(self, count: int, rng: np.random.Generator) -> Integers:
        """[count] positions, drawn with replacement."""
        from_gan = rng.random(count) < self.share
        of_class = rng.random(count) < np.where(from_gan, 0.5, self.positives)
        pick = rng.random(count)
        out = np.empty(count, np.int64)
        for generated in (False, True):
            for positive in (False, True):
                asked = (from_gan == generated) & (of_class == positive)
                if asked.any():
                    pool = np.flatnonzero(
                        (self.generated == generated) & (self.positive == positive)
                    )
                    out[asked] = pool[(pick[asked] * len(pool)).astype(np.int64)]
        return out

    def batches(
        self, steps: int, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`steps` times [size, C, D, H, W] volumes and their [size] classes, 0 or 1."""
        order = self.order(steps * size, rng).reshape(steps, size)
        most = strength(self.factor)
        for chosen in order:
            volumes = torch.from_numpy(self.values[chosen])
            if self.classic:
                volumes, _ = augment(volumes, self.classic, rng, most, self.spacing)
            yield volumes, torch.from_numpy(self.positive[chosen].astype(np.int64))


def strength(factor: float) -> Strength:
    """The usual strength of every augmentation times `factor`; mirroring stays as it is."""
    usual = Strength()
    return Strength(
        **{f.name: getattr(usual, f.name) * factor for f in fields(usual) if f.name != "flip"}
    )


def diet_of(
    arm: Arm,
    trial: float,
    real: tuple[Floats, Bools],
    generated: tuple[Floats, Bools] | None,
    study: Study,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Diet:
    """What an arm trains on with one of its trials.

    Every arm but `real` and a weaker `oversampled` draws both classes equally often, so that what
    an arm with generated volumes gains over its partner is not mere balance.

    Args:
        arm: which.
        trial: value of its own strength.
        real: volumes and whether they are positive.
        generated: likewise, for the arms that take them.
        study: for the kinds of augmentation.
        spacing: mm along D, H, W.
    """
    values, positive = real
    natural = float(positive.mean())
    positives, share, decay, factor = 0.5, 0.0, WEIGHT_DECAY, 1.0
    if arm == "real":
        positives, decay = natural, trial
    elif arm == "oversampled":
        positives = natural + trial * (0.5 - natural)
    elif arm == "classic":
        factor = trial
    else:
        assert generated is not None, f"{arm} without generated volumes"
        share = trial
        values = np.concatenate([values, generated[0]])
        positive = np.concatenate([positive, generated[1]])
    made = np.arange(len(positive)) >= len(real[1])
    kinds = study.classic if arm in ("classic", "gan+classic") else ()
    sizes = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Diet(values, positive, made, share, positives, kinds, factor, decay, sizes)
