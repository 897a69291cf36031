"""What somebody can do who holds the checkpoint of a run, for the audit of memberships."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Insider
from fastgan.config import Config, parse
from fastgan.data import Batch
from fastgan.data.normalise import Normalisation, on_grid
from fastgan.errors import AuditError, NotAsked, NumericsError, StateError
from fastgan.gans import AdversarialGAN
from fastgan.random import Draws
from fastgan.train.build import variant_of
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve
from fastgan.train.load import load_critic, load_generator
from fastgan.train.loop import Training
from fastgan.train.run_folder import RunFolder

__all__ = ["insider_of_run"]

BATCH = 32
"""Volumes at once; results do not depend on it beyond rounding."""
LATENTS = 128
"""Random latents of a class from which inversion begins."""
INVERSION_STEPS = 10
INVERSION_RATE = 0.1
OVERTRAINING_STEPS = 300
"""A critic of the bundled example then knows a dozen patients."""


def insider_of_run(folder: RunFolder, found: Checkpoint, device: str = "auto") -> Insider:
    """The networks of a checkpoint, and training them anew on other volumes.

    Args:
        folder: the run.
        found: the checkpoint: its averaged generator and its critic.
        device: as in `train.device`.

    Raises:
        NotAsked: the checkpoint holds no critic.
        AuditError: its critic is of another architecture.
    """
    if not found.parts.get("critic"):
        raise NotAsked(f"{found.path.name} holds no critic, so only volumes can be shared or seen")
    game = load_generator(folder, found)
    try:
        load_critic(game, found)
    except StateError as error:
        raise AuditError(f"the critic cannot be used: {error}") from error
    folder = folder.as_of(found)
    place = resolve(device)
    game.to(place)
    return _insider(game, _Origin(folder, folder.config(), folder.data(), place))


@dataclass(frozen=True)
class _Origin:
    """What networks of a run are made from."""

    folder: RunFolder
    config: Config
    data: dict[str, Any]
    device: torch.device

    def seen(self, values: Floats) -> Tensor:
        """[N, 1, D, H, W] of volumes [N, D, H, W] as networks see them."""
        shown = on_grid(values, self.data["normalisation"], self.data["spacing"])
        return torch.from_numpy(np.ascontiguousarray(shown, dtype=np.float32))[:, None]


def _insider(game: AdversarialGAN, origin: _Origin) -> Insider:
    for module in game.modules.values():
        module.eval().requires_grad_(False)

    def scored(one: Callable[[AdversarialGAN, Tensor, Tensor | None], Tensor]) -> Any:
        def score(values: Floats, labels: Integers | None) -> Floats:
            asked = _labels(game, labels, len(values))
            out = []
            for start in range(0, len(values), BATCH):
                part = slice(start, start + BATCH)
                known = None if asked is None else asked[part].to(origin.device)
                out.append(one(game, origin.seen(values[part]).to(origin.device), known).cpu())
            scores: Floats = torch.cat(out).double().numpy()
            return scores

        return score

    return Insider(
        scored(_critic),
        scored(_inverse),
        lambda *given: _insider(_overtrained(origin, *given), origin),
    )


def _labels(game: AdversarialGAN, labels: Integers | None, count: int) -> Tensor | None:
    """[count] labels for networks that ask for them."""
    if not game.num_classes:
        return None
    if labels is None:
        raise AuditError("the networks are conditional, and the volumes have no labels")
    return torch.from_numpy(np.asarray(labels, np.int64)).reshape(count)


def _critic(game: AdversarialGAN, volumes: Tensor, labels: Tensor | None) -> Tensor:
    """[B] scores; a critic that sees groups sees each volume among the same generated ones."""
    critic = game.modules["critic"]
    group = int(getattr(critic, "group", 0))
    with torch.no_grad():
        if not group:
            scores: Tensor = critic(volumes) if labels is None else critic(volumes, labels)
            return scores
        among = [
            game.sample(group - 1, k if game.num_classes else None, Draws(0).numpy(k, "companions"))
            for k in range(max(1, game.num_classes))
        ]
        kinds = torch.zeros(len(volumes), dtype=torch.int64) if labels is None else labels.cpu()
        out = []
        for volume, kind in zip(volumes, kinds.tolist(), strict=True):
            both = torch.cat([volume[None], among[kind]])
            asked = None if labels is None else labels.new_full((group,), kind)
            out.append((critic(both) if asked is None else critic(both, asked))[0])
        return torch.stack(out)


def _inverse(game: AdversarialGAN, volumes: Tensor, labels: Tensor | None) -> Tensor:
    """[B] root mean square distance that is left after the search for the best latent."""
    generator = game.modules["generator"]
    start = Draws(0).normal(0, "inversion", (LATENTS, game.latent_dim)).to(volumes.device)
    flat = volumes.flatten(1)
    z = torch.empty(len(volumes), game.latent_dim, device=volumes.device)
    for kind in range(max(1, game.num_classes)):
        asked = torch.full((LATENTS,), kind, device=volumes.device) if game.num_classes else None
        with torch.no_grad():
            drawn = generator(start, asked).float().flatten(1)
        at = slice(None) if labels is None else labels == kind
        z[at] = start[torch.cdist(flat[at], drawn).argmin(1)]
    z.requires_grad_(True)
    adam = torch.optim.Adam([z], lr=INVERSION_RATE, betas=(0.9, 0.9))
    best = torch.full((len(volumes),), torch.inf, device=volumes.device)
    for step in range(INVERSION_STEPS + 1):
        left = (generator(z, labels).float() - volumes).square().flatten(1).mean(1)
        best = torch.minimum(best, left.detach())
        if step < INVERSION_STEPS:
            (z.grad,) = torch.autograd.grad(left.sum(), z)
            adam.step()
    return best.sqrt()


class _Few:
    """A few volumes as a set to train on, as they are."""

    def __init__(self, origin: _Origin, values: Floats, labels: Integers | None) -> None:
        data = origin.data
        self.fingerprint = ""
        self.shape: tuple[int, int, int] = tuple(data["shape"])
        self.channels, self.spacing = int(data["channels"]), tuple(data["spacing"])
        self.classes, self.prior = tuple(data["classes"]), np.asarray(data["prior"])
        self.normalisation: Normalisation = data["normalisation"]
        self._volumes = origin.seen(values).contiguous(memory_format=torch.channels_last_3d)
        self._labels = None if labels is None else torch.from_numpy(np.asarray(labels, np.int64))

    def __len__(self) -> int:
        return len(self._volumes)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """`batch_size` volumes drawn with replacement."""
        index = torch.from_numpy(rng.integers(0, len(self), batch_size))
        labels = None if self._labels is None else self._labels[index]
        return Batch(self._volumes[index], labels, index)


def _overtrained(
    origin: _Origin, values: Floats, labels: Integers | None, seconds: float
) -> AdversarialGAN:
    """Networks from their beginning after `OVERTRAINING_STEPS` on a few volumes.

    Raises:
        AuditError: it would take longer than `seconds`, or diverged.
    """
    settings = origin.config.settled().model_dump(mode="json")
    # Augmentation keeps a critic from knowing volumes, and a decay would end the training early.
    settings["gan"]["augment"] = []
    settings["train"] |= {"steps": OVERTRAINING_STEPS, "lr_decay": "none", "decay_steps": None}
    config = parse(settings, where="the over-trained copy")
    game = variant_of(config, origin.data)
    assert isinstance(game, AdversarialGAN)
    _labels(game, labels, len(values))
    few = _Few(origin, values, labels)
    training = Training(game, few, config, origin.folder, origin.device, origin.data)
    try:
        for step in range(OVERTRAINING_STEPS):
            began = time.perf_counter()
            training.advance()
            if step == 2:  # the first ones also prepare
                _require_time(time.perf_counter() - began, seconds)
        training.watch.settle()
    except NumericsError as error:
        raise AuditError(f"the over-trained copy diverged: {error}") from error
    finally:
        training.batches.close()
    return game


def _require_time(step: float, seconds: float) -> None:
    if step * OVERTRAINING_STEPS > seconds:
        raise AuditError(
            f"training a copy of the networks on few patients would take about "
            f"{step * OVERTRAINING_STEPS / 60:.0f} minutes here, {seconds / 60:.0f} are allowed; "
            "audit on a GPU, or take it that the checkpoint is exposed and share volumes alone"
        )
