"""The categorical game, played by AdversarialGAN and the training loop."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import parse
from fastgan.data import Batch
from fastgan.data.normalise import Normalisation
from fastgan.examples.toy_game.solution import CATEGORIES, LOSSES, PENALTY_WEIGHT, REAL
from fastgan.gans import AdversarialGAN, AdversarialSettings
from fastgan.gans.augment import Moves
from fastgan.train import fit
from fastgan.train.device import repeatable
from fastgan.train.progress import Progress

__all__ = ["CategoricalGAN", "Categories", "Knob", "Play", "Softmax", "Table", "play"]

STEPS = 500
CRITIC_STEPS = 4
LR_GENERATOR = 0.02
# Shared by the critic's updates of a step.
LR_CRITIC = 0.2
BETAS = (0.0, 0.99)
# A multiple of 10, so that a batch holds 60, 30 and 10 % exactly; q is met to half a thousandth.
BATCH_SIZE = 1000


class Draw(nn.Module):
    """Draws categories as volumes of three voxels, one of them 1.

    A batch of B holds every category as often as its share says, to 1 / B: one draw from each of
    B equal slices of the distribution. So nothing is left to chance, and the latent is not read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim, self.channels, self.shape = 1, 1, (1, 1, 3)

    def shares(self) -> Tensor:
        """[3] shares q, differentiable."""
        raise NotImplementedError

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, 1] -> [B, 1, 1, 1, 3]."""
        slices = (torch.arange(z.shape[0], device=z.device) + 0.5) / z.shape[0]
        edges = self.shares().detach().cumsum(0)[:2]
        drawn = torch.bucketize(slices, edges, right=True)
        return nn.functional.one_hot(drawn, 3).float().view(-1, 1, 1, 1, 3)


class Knob(Draw):
    """q = (t, (1-t)/2, (1-t)/2); at the start t = 1/3, all categories alike."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(1.0 / 3.0).logit())

    def shares(self) -> Tensor:
        """q(t)."""
        t = self.logit.sigmoid()
        return torch.stack([t, (1.0 - t) / 2.0, (1.0 - t) / 2.0])


class Softmax(Draw):
    """Three logits: a generator that can match any p."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))

    def shares(self) -> Tensor:
        """softmax(logits)."""
        return self.logits.softmax(0)


class Table(nn.Module):
    """A critic that holds one score per category."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, 1, 1, 1, 3] -> [B]."""
        return x.flatten(1) @ self.scores


class CategoricalGAN(AdversarialGAN):
    """AdversarialGAN, but for one thing: a category cannot be moved a little.

    So the generator's gradient runs through how likely a draw was instead of what was drawn:
    d/dt sum_i q_i f_i = E_q[f_i d log q_i / dt].
    """

    def critic_loss(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """As AdversarialGAN; logs the score of every category, too."""
        loss, metrics = super().critic_loss(*args, **kwargs)
        critic: Any = self.modules["critic"]
        return loss, metrics | by_category("score", critic.scores)

    def generator_loss(
        self, z: Tensor, labels: Tensor | None, *, rng: np.random.Generator | Moves
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """E on_generator(score) q / q, the lower q held fixed; logs the shares."""
        generator: Any = self.modules["generator"]
        drawn, shares = generator(z), generator.shares()
        terms = self.objective.on_generator(self.modules["critic"](drawn))
        likelihood = drawn.flatten(1) @ shares
        loss = (terms * likelihood / likelihood.detach()).mean()
        return loss, by_category("share", shares)


def by_category(what: str, values: Tensor) -> dict[str, Tensor]:
    """Three detached scalars of values [3]."""
    named = zip(CATEGORIES, values.detach().clone().unbind(), strict=True)
    return {f"{what}/{name}": value for name, value in named}


class Categories:
    """A data set of which every batch holds the categories exactly in their shares."""

    shape, channels, spacing = (1, 1, 3), 1, (1.0, 1.0, 1.0)
    classes: tuple[str, ...] = ()
    prior = np.ones(1)
    fingerprint = "0" * 64
    normalisation = Normalisation(modality="map", low=-1.0, high=1.0, method="none")

    def __len__(self) -> int:
        return 10

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` volumes, a multiple of 10; nothing is drawn."""
        counts = (REAL * batch_size).round().long()
        category = torch.repeat_interleave(torch.arange(3), counts)
        volumes = nn.functional.one_hot(category, 3).float().view(-1, 1, 1, 1, 3)
        return Batch(volumes, None, category)


@dataclass
class Play:
    """How a game went.

    Attributes:
        objective: its name.
        shares: [steps, 3] q of the generator at each step.
        scores: [steps, 3] of the critic, the mean over its updates of the step.
        divergence: [steps] the critic's own estimate, the metric that LOSSES names.
    """

    objective: str
    shares: np.ndarray
    scores: np.ndarray
    divergence: np.ndarray


def play(
    objective: str,
    generator: Draw | None = None,
    *,
    steps: int = STEPS,
    critic_steps: int = CRITIC_STEPS,
) -> Play:
    """Train by `fastgan.train.fit`, from a critic that knows nothing.

    Args:
        objective: any of LOSSES.
        generator: a Knob if none is given.
        steps: generator steps, >= 1.
        critic_steps: critic updates before each.
    """
    gan = CategoricalGAN(
        Knob() if generator is None else generator,
        Table(),
        AdversarialSettings(
            objective=objective,
            penalty="wgan-gp" if objective == "wasserstein" else "none",
            penalty_weight=PENALTY_WEIGHT,
            critic_steps=critic_steps,
            lr_critic=LR_CRITIC / critic_steps,
            lr_generator=LR_GENERATOR,
            betas=BETAS,
        ),
    )
    train = {"steps": steps, "batch_size": BATCH_SIZE, "lr_decay": "linear", "device": "cpu"}
    rare = {"log_every": 1, "checkpoint_every": steps, "sample_every": steps}
    config = parse({"name": objective, "train": train | rare})
    # One thread: by two, sums end in other digits, and the hinge loss goes another way at its kink.
    with tempfile.TemporaryDirectory() as folder, repeatable(False, threads=1):
        progress = Progress(steps, stream=io.StringIO())
        run = fit(gan, Categories(), config, out=folder, progress=progress)
        rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]

    def column(name: str) -> list[float]:
        return [row[name] for row in rows]

    return Play(
        objective,
        np.array([column(f"generator/share/{name}") for name in CATEGORIES]).T,
        np.array([column(f"critic/score/{name}") for name in CATEGORIES]).T,
        np.array(column(f"critic/{LOSSES[objective]}")),
    )
