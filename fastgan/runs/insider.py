"""What somebody can do who holds the checkpoint of a run, for the audit of memberships."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Insider, Score
from fastgan.data.normalise import on_grid
from fastgan.errors import AuditError, NotAsked, StateError
from fastgan.gans import AdversarialGAN
from fastgan.ops.tensor_float import tensor_float32
from fastgan.random import Draws
from fastgan.train.build import variant_of
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve
from fastgan.train.load import load_critic, load_generator
from fastgan.train.run_folder import RunFolder

__all__ = ["insider_of_run"]

BATCH = 32
"""Volumes at once; results do not depend on it beyond rounding."""
LATENTS = 128
"""Random latents of a class from which inversion begins."""
INVERSION_STEPS = 10
INVERSION_RATE = 0.1
OVERTRAINING_STEPS = 150
"""Of a critic, after which that of the bundled example knows a score of patients."""
OVERTRAINING_BATCH = 16
OVERTRAINING_RATE = 1e-3


def insider_of_run(folder: RunFolder, found: Checkpoint, device: str = "auto") -> Insider:
    """The networks of a checkpoint, and training its critic on a few volumes.

    Args:
        folder: the run.
        found: the checkpoint: its averaged generator and its critic.
        device: as in `train.device`.

    Raises:
        NotAsked: the checkpoint holds no critic.
        AuditError: its critic is of another architecture.
    """
    if not found.parts.get("critic"):
        raise NotAsked(f"{found.path.name} holds no critic")
    game = load_generator(folder, found)
    folder = folder.as_of(found)
    # As they were before they saw anybody.
    blank = variant_of(folder.config(), folder.data()).modules["critic"]
    try:
        load_critic(game, found)
    except StateError as error:
        raise AuditError(f"the critic cannot be used: {error}") from error
    networks = _Networks(game, folder.data(), resolve(device))
    return Insider(
        networks.scores(game.modules["critic"]),
        networks.inverse,
        networks.overtrained,
        networks.scores(blank),
    )


class _Networks:
    """A game whose networks are attacked, on a device."""

    def __init__(self, game: AdversarialGAN, data: dict[str, Any], device: torch.device) -> None:
        game.to(device)
        self.game, self.data, self.device = game, data, device
        self.generator = game.modules["generator"].eval().requires_grad_(False)
        self.kinds = max(1, game.num_classes)

    def scores(self, critic: nn.Module) -> Score:
        """What a critic makes of volumes; one that sees groups sees each among generated ones."""
        critic = critic.to(self.device).eval().requires_grad_(False)
        group = max(1, int(getattr(critic, "group", 0)))
        among = [self._drawn(group - 1, kind, "companions") for kind in range(self.kinds)]

        def part(volumes: Tensor, labels: Tensor | None) -> Tensor:
            kinds = [0] * len(volumes) if labels is None else labels.tolist()
            sets = [torch.cat([v[None], among[k]]) for v, k in zip(volumes, kinds, strict=True)]
            asked = None if labels is None else labels.repeat_interleave(group)
            with torch.no_grad():
                return _score(critic, torch.cat(sets), asked)[::group]

        return self._by_parts(part, max(1, BATCH // group))

    @property
    def inverse(self) -> Score:
        """How near the generator can be brought to volumes."""
        return self._by_parts(self._inverse, BATCH)

    def overtrained(self, values: Floats, labels: Integers | None, seconds: float) -> Score:
        """Scores of the critic after it was trained to tell a few volumes from generated ones.

        By logistic loss without penalty or augmentation: nothing keeps it from knowing them.

        Raises:
            AuditError: it would take longer than `seconds`, or the scores are not finite.
        """
        critic = copy.deepcopy(self.game.modules["critic"]).train().requires_grad_(True)
        real, asked = self._seen(values).to(self.device), self._labels(labels, len(values))
        group = max(1, int(getattr(critic, "group", 0)))
        batch = group * max(1, OVERTRAINING_BATCH // group)
        adam = torch.optim.Adam(critic.parameters(), lr=OVERTRAINING_RATE, betas=(0.5, 0.9))
        draws = Draws(0)
        for step in range(OVERTRAINING_STEPS):
            began = time.perf_counter()
            rows = torch.from_numpy(draws.numpy(step, "few").integers(0, len(real), batch))
            kinds = None if asked is None else asked[rows]
            z = draws.normal(step, "latent", (batch, self.game.latent_dim)).to(self.device)
            with torch.no_grad():
                made = self.generator(z, kinds)
            told, untold = _score(critic, real[rows], kinds), _score(critic, made, kinds)
            loss = F.softplus(-told).mean() + F.softplus(untold).mean()
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
            if step == 2:  # the first ones also prepare
                _require_time(time.perf_counter() - began, seconds)
        return self.scores(critic)

    def _inverse(self, volumes: Tensor, labels: Tensor | None) -> Tensor:
        """[B] root mean square distance that is left after the search for the best latent."""
        start = Draws(0).normal(0, "inversion", (LATENTS, self.game.latent_dim)).to(volumes.device)
        flat = volumes.flatten(1)
        z = torch.empty(len(volumes), self.game.latent_dim, device=volumes.device)
        for kind in range(self.kinds):
            asked = None
            if self.game.num_classes:
                asked = torch.full((LATENTS,), kind, device=volumes.device)
            with torch.no_grad():
                drawn = self.generator(start, asked).float().flatten(1)
            at = slice(None) if labels is None else labels == kind
            z[at] = start[torch.cdist(flat[at], drawn).argmin(1)]
        z.requires_grad_(True)
        adam = torch.optim.Adam([z], lr=INVERSION_RATE, betas=(0.9, 0.9))
        best = torch.full((len(volumes),), torch.inf, device=volumes.device)
        for step in range(INVERSION_STEPS + 1):
            left = (self.generator(z, labels).float() - volumes).square().flatten(1).mean(1)
            best = torch.minimum(best, left.detach())
            if step < INVERSION_STEPS:
                (z.grad,) = torch.autograd.grad(left.sum(), z)
                adam.step()
        return best.sqrt()

    def _by_parts(self, part: Callable[[Tensor, Tensor | None], Tensor], size: int) -> Score:
        """A score of any number of volumes from one of `size` at once."""

        def score(values: Floats, labels: Integers | None) -> Floats:
            asked = self._labels(labels, len(values))
            out = []
            with tensor_float32(False):
                for start in range(0, len(values), size):
                    rows = slice(start, start + size)
                    known = None if asked is None else asked[rows]
                    out.append(part(self._seen(values[rows]).to(self.device), known).cpu())
            scores: Floats = torch.cat(out).double().numpy()
            return scores

        return score

    def _seen(self, values: Floats) -> Tensor:
        """[N, 1, D, H, W] of volumes [N, D, H, W] as networks see them."""
        shown = on_grid(values, self.data["normalisation"], self.data["spacing"])
        return torch.from_numpy(np.ascontiguousarray(shown, dtype=np.float32))[:, None]

    def _labels(self, labels: Integers | None, count: int) -> Tensor | None:
        """[count] labels for networks that ask for them."""
        if not self.game.num_classes:
            return None
        if labels is None:
            raise AuditError("the networks are conditional, and the volumes have no labels")
        asked = torch.from_numpy(np.asarray(labels, np.int64)).reshape(count)
        return asked.to(self.device)

    def _drawn(self, count: int, kind: int, purpose: str) -> Tensor:
        """[count, 1, D, H, W] generated volumes of a class, always the same."""
        label = kind if self.game.num_classes else None
        return self.game.sample(count, label, Draws(0).numpy(kind, purpose))


def _score(critic: nn.Module, volumes: Tensor, labels: Tensor | None) -> Tensor:
    scores: Tensor = critic(volumes) if labels is None else critic(volumes, labels)
    return scores


def _require_time(step: float, seconds: float) -> None:
    if step * OVERTRAINING_STEPS > seconds:
        raise AuditError(
            f"training the critic on few patients would take about "
            f"{step * OVERTRAINING_STEPS / 60:.0f} minutes here, {seconds / 60:.0f} are allowed; "
            "audit on a GPU, or take it that the checkpoint is exposed and share volumes alone"
        )
