"""Generators of one point, critics of one slope or one slope per interval, in float64."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import parse
from fastgan.data import Batch
from fastgan.train.loop import Training
from fastgan.train.progress import Progress
from fastgan.train.run_folder import RunFolder

DOUBLE = torch.float64
QUIET = Progress(1, stream=io.StringIO())


def as_volumes(x: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1]."""
    return x.reshape(-1, 1, 1, 1, 1)


class Fixed(nn.Module):
    """Generates the same numbers x [B], moved by a learned shift."""

    def __init__(self, x: Tensor | list[float], shift: float = 0.0) -> None:
        super().__init__()
        self.x = torch.as_tensor(x, dtype=DOUBLE)
        self.at = nn.Parameter(torch.tensor(shift, dtype=DOUBLE))
        self.latent_dim, self.channels, self.shape = 1, 1, (1, 1, 1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.x.expand(z.shape[0]) if len(self.x) == 1 else self.x
        return as_volumes(x + self.at)


def point(at: float) -> Fixed:
    """Generates one point, whatever the latent."""
    return Fixed([0.0], at)


class Line(nn.Module):
    """f(x) = w x, plus a table of scores by label."""

    def __init__(self, w: float, scores: list[float] | None = None) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=DOUBLE))
        if scores is not None:
            self.scores = nn.Parameter(torch.tensor(scores, dtype=DOUBLE))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        score = self.w * x.flatten(1).sum(1)
        return score + (0 if labels is None else self.scores[labels])


class Slopes(nn.Module):
    """f with f' constant in each of K equal intervals of [low, high], and f(low) = 0."""

    def __init__(self, low: float, high: float, count: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.ones(count, dtype=DOUBLE))
        self.low, self.width, self.count = low, (high - low) / count, count

    def interval(self, x: Tensor) -> Tensor:
        """[B] -> [B] index."""
        return ((x.detach() - self.low) / self.width).long().clamp(0, self.count - 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x.flatten(1).sum(1)
        at = self.interval(x)
        before = torch.cat([self.slopes.new_zeros(1), self.slopes.cumsum(0)])[at] * self.width
        return before + self.slopes[at] * (x - self.low - at * self.width)


class Constant:
    """A data set of which every batch is the same."""

    channels, spacing, fingerprint = 1, (1.0, 1.0, 1.0), "0" * 64
    shape = (1, 1, 1)
    normalisation: ClassVar = {"modality": "map", "low": -1.0, "high": 1.0}
    classes: tuple[str, ...] = ()
    prior = np.ones(1)

    def __init__(self, x: Tensor, labels: Tensor | None = None) -> None:
        self.batch = Batch(as_volumes(x), labels, torch.arange(len(x)))

    def __len__(self) -> int:
        return len(self.batch.volumes)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        return self.batch


def training(gan: Any, data: Constant, folder: Path, **train: Any) -> Training:
    """The training loop, to be advanced step by step."""
    settings = {"device": "cpu", "batch_size": len(data)} | train
    config = parse({"name": "toy", "train": settings})
    run = RunFolder.create(folder, config, {"fingerprint": data.fingerprint}, ["toy"])
    return Training(gan, data, config, run, torch.device("cpu"))


def quantiles(inverse_cdf: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """[count] float64: one point in each of `count` equal slices of a distribution."""
    return inverse_cdf((torch.arange(count, dtype=DOUBLE) + 0.5) / count)


def normal(mean: float, deviation: float, count: int) -> Tensor:
    """Quantiles of a normal distribution."""
    return quantiles(lambda u: mean + deviation * 2**0.5 * torch.erfinv(2 * u - 1), count)
