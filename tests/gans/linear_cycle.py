"""Two linear translators and critics whose game has a closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastgan.gans import CycleGAN, CycleSettings

ONE = (1, 1, 1, 1)


class Scale(nn.Module):
    """x -> factor x, the linear translator."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Quadratic(nn.Module):
    """x -> offset + slope x + curve x^2, a critic that sees mean and variance."""

    def __init__(self, offset: float = 0.0, slope: float = 0.0, curve: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([offset, slope, curve]))

    def forward(self, x: Tensor) -> Tensor:
        offset, slope, curve = self.weights
        return (offset + slope * x + curve * x * x)[:, 0]


def linear(
    ab: float = 2.0, ba: float = 0.25, critics: tuple[Any, Any] | None = None, **settings: Any
) -> CycleGAN:
    d_a, d_b = critics or (Quadratic(0.1, 0.3), Quadratic(-0.2, 0.5))
    alike = settings.pop("same_contrast", False)
    game = CycleSettings(**settings)
    return CycleGAN(Scale(ab), Scale(ba), d_a, d_b, shape=ONE, settings=game, same_contrast=alike)
