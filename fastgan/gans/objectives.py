"""The games: what critic and generator minimise, as functions of the critic's scores.

A variant is three formulas per score. Each is one small file that registers into `objectives`;
scores are logits s where the literature writes D = sigmoid(s). Everything is averaged in float32
or wider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.nn.choices import check_choice
from fastgan.ops.constants import constant

__all__ = ["Objective", "find_objective", "objectives", "register"]

Elementwise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """One game.

    Attributes:
        name: key in `objectives`.
        on_real, on_fake: [B] scores -> [B] terms of the critic's loss.
        on_generator: [B] scores of generated volumes -> [B] terms of the generator's loss.
        optimum: what the critic and both losses are when the generator has won.
        measure: (real [B], fake [B]) -> named scalars worth logging, e.g. the divergence the
            critic's loss bounds.
        bounded_slope: the game has no optimum unless the critic's slope is bounded.
        factors: of the scores of real and of generated volumes, where the terms of the critic's
            loss are these multiples and no more; None: they are not.
    """

    name: str
    on_real: Elementwise
    on_fake: Elementwise
    on_generator: Elementwise
    optimum: str
    measure: Callable[[Tensor, Tensor], dict[str, Tensor]] = lambda real, fake: {}
    bounded_slope: bool = False
    factors: tuple[float, float] | None = None

    def critic_loss(
        self, real: Tensor, fake: Tensor, penalty: Tensor | None = None, factor: float = 1.0
    ) -> Tensor:
        """E on_real(real) + E on_fake(fake) + factor penalty.

        Args:
            real: [B] scores, or [B, ...] of patches.
            fake: likewise.
            penalty: scalar; None: 0.
            factor: of the penalty.

        Returns:
            Scalar.

        Cost: beside the terms two launches, and one for their derivative.
        """
        terms = [self.on_real(_wide(real)).reshape(-1), self.on_fake(_wide(fake)).reshape(-1)]
        shares = [(1.0 / max(len(term), 1), len(term)) for term in terms]
        return _weighted(terms, shares, penalty, factor)

    def critic_loss_of_both(
        self, scores: Tensor, penalty: Tensor | None = None, factor: float = 1.0
    ) -> Tensor:
        """`critic_loss` of scores [2 B], of real volumes and then of as many generated ones."""
        if self.factors is None:
            real, fake = scores.chunk(2)
            return self.critic_loss(real, fake, penalty, factor)
        size = len(scores) // 2
        shares = [(factor_of_half / size, size) for factor_of_half in self.factors]
        return _weighted([_wide(scores)], shares, penalty, factor)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """E on_generator(fake); fake [B] scores -> scalar."""
        return self.on_generator(_wide(fake)).mean()

    def metrics(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Mean scores and `measure`, detached scalars without a host sync."""
        real, fake = _wide(real.detach()), _wide(fake.detach())
        means = {"score_real": real.mean(), "score_fake": fake.mean()}
        return means | self.measure(real, fake)


objectives: dict[str, Objective] = {}


def register(objective: Objective, *aliases: str) -> Objective:
    """Enter an objective under its name and `aliases`."""
    for name in (objective.name, *aliases):
        if name in objectives:
            raise ValueError(f"objective {name!r} is registered twice")
        objectives[name] = objective
    return objective


def find_objective(name: str) -> Objective:
    """The objective called `name`.

    Raises:
        ConfigError: unknown; names the nearest one.
    """
    check_choice("objective", name, objectives)
    return objectives[name]


def _weighted(
    terms: list[Tensor], shares: list[tuple[float, int]], penalty: Tensor | None, factor: float
) -> Tensor:
    """The sum of all terms, each with its share, and the penalty with its factor."""
    if penalty is not None:
        terms, shares = [*terms, penalty.reshape(1)], [*shares, (factor, 1)]
    flat = torch.cat(terms) if len(terms) > 1 else terms[0]
    return torch.dot(flat, constant(flat.dtype, flat.device, *shares))


def _wide(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
