"""What keeps the critic's slope in bounds.

wgan-gp   E (|grad f(x^)| - 1)^2, x^ a random mix of a real and a generated volume
          (one-sided: only slopes above 1 count)
r1        E |grad f(x)|^2 / 2 at real volumes
r2        E |grad f(x)|^2 / 2 at generated volumes
none      nothing

The penalty's weight multiplies these. A lazy penalty is evaluated every `interval` critic steps
and weighs `interval` times as much, so its mean pull on the critic is the same.

Source: Gulrajani et al. 2017; Mescheder et al. 2018 (r1, r2); Karras et al. 2020 (lazy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.gans.settings import AdversarialSettings
from fastgan.nn.choices import check_choice

__all__ = ["PENALTIES", "Penalty"]

PENALTIES = ("wgan-gp", "r1", "r2", "none")


@dataclass(frozen=True)
class Penalty:
    """A penalty with its weight and rhythm.

    Attributes:
        kind: wgan-gp | r1 | r2 | none.
        weight: lambda (wgan-gp) or gamma (r1, r2), > 0 unless the kind is none.
        one_sided: wgan-gp only.
        interval: evaluate every this many critic steps.

    Raises:
        ConfigError: an unknown kind, a weight of zero, or one_sided with a zero-centred kind.
    """

    kind: str = AdversarialSettings.penalty
    weight: float = AdversarialSettings.penalty_weight
    one_sided: bool = AdversarialSettings.one_sided
    interval: int = AdversarialSettings.penalty_interval

    def __post_init__(self) -> None:
        check_choice("penalty", self.kind, PENALTIES)
        if self.interval < 1:
            raise ConfigError(f"penalty_interval must be >= 1, got {self.interval}")
        if self.one_sided and self.kind != "wgan-gp":
            raise ConfigError(f"one_sided needs penalty 'wgan-gp', got {self.kind!r}")
        if self.kind != "none" and not self.weight > 0.0:
            raise ConfigError(
                f"penalty {self.kind!r} with penalty_weight {self.weight} does nothing; "
                "choose penalty 'none' or a weight > 0"
            )

    @property
    def mixes(self) -> bool:
        """Whether it is taken at mixes of real and generated volumes."""
        return self.kind == "wgan-gp"

    def due(self, critic_step: int) -> bool:
        """Is the penalty evaluated at this critic step (counted from 0)?"""
        return self.kind != "none" and critic_step % self.interval == 0

    def evaluate(
        self,
        critic: nn.Module,
        real: Tensor,
        fake: Tensor,
        labels: Tensor | None = None,
        share: Tensor | None = None,
        summed: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The unweighted penalty.

        Args:
            critic: (x, labels) -> [B] scores.
            real: [B, C, D, H, W].
            fake: like real; volume i of both has label i.
            labels: [B] or None.
            share: [B] of real in the mix, as of `ops.gradient_penalty`; None: drawn there.
            summed: where volumes are in parts, as of `ops.gradient_penalty`; None: they are whole.

        Returns:
            Scalar value, and the gradient norms [B], detached.

        Derivatives: one, to the critic's parameters (the value holds a gradient already).
        """
        if self.mixes:
            found = ops.gradient_penalty(
                critic,
                real,
                fake,
                labels=labels,
                target=1.0,
                one_sided=self.one_sided,
                share=share,
                summed=summed,
            )
            return found.value, found.norms
        # Handed the same volumes twice, the operator mixes nothing.
        at = real if self.kind == "r1" else fake
        found = ops.gradient_penalty(critic, at, at, labels=labels, target=0.0, summed=summed)
        return found.value / 2.0, found.norms

    @property
    def factor(self) -> float:
        """What a value that was evaluated is multiplied with: weight * interval."""
        return self.weight * self.interval

    def excess(self, norms: Tensor) -> Tensor:
        """E[n max(n - 1, 0)] (one-sided) or E[n (n - 1)] of gradient norms n [B], of wgan-gp."""
        above = norms - 1.0
        return (norms * (above.clamp_min(0.0) if self.one_sided else above)).mean()
