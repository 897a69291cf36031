"""A GAN of a few hundred weights and its data, for the loop's tests."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import Config, parse
from fastgan.random import Draws

SHAPE = (4, 4, 4)


@dataclass
class Batch:
    volumes: Tensor
    labels: Tensor | None
    index: Tensor


@dataclass
class Settings:
    lr: float = 1e-2
    beta1: float = 0.0
    beta2: float = 0.9


@dataclass
class Phase:
    name: str
    updates: tuple[str, ...]
    loss: Callable[[], tuple[Tensor, dict[str, Tensor]]]
    after: Callable[[], None] | None = None
    batches: tuple[str, ...] | None = None


class TinyDataset:
    shape = SHAPE
    channels = 1
    spacing = (1.0, 1.0, 2.0)
    classes: tuple[str, ...] = ()
    prior = np.ones(1)
    normalisation: dict[str, Any] = {"low": 0.0, "high": 1.0}  # noqa: RUF012
    fingerprint = "f" * 64

    def __init__(self, poisoned: int | None = None) -> None:
        volumes = np.random.default_rng(1).standard_normal((12, 1, *SHAPE), dtype=np.float32)
        if poisoned is not None:
            volumes[poisoned] = np.nan
        self.volumes = torch.from_numpy(volumes).tanh()

    def __len__(self) -> int:
        return len(self.volumes)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        index = torch.from_numpy(rng.integers(0, len(self), batch_size))
        return Batch(self.volumes[index], None, index)


def _generator(width: int) -> nn.Module:
    layers = (nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 64), nn.Tanh())
    return nn.Sequential(*layers, nn.Unflatten(1, (1, *SHAPE)))


@dataclass
class Pictures:
    volumes: Tensor
    columns: int
    caption: str = ""
    titles: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TinyVariant:
    width: int = 8
    critic_steps: int = 2
    slow: float = 0.0
    ema_of: tuple[str, ...] = ("generator",)
    optimisers: dict[str, Settings] = field(
        default_factory=lambda: {"critic": Settings(), "generator": Settings()}
    )

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.modules = {
            "generator": _generator(self.width),
            "critic": nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1)),
        }

    def phases(
        self, step: int, next_batch: Callable[[str], Batch], draws: Draws
    ) -> Iterator[Phase]:
        time.sleep(self.slow)
        generator, critic = self.modules["generator"], self.modules["critic"]

        def critic_loss(i: int) -> tuple[Tensor, dict[str, Tensor]]:
            real = next_batch(f"critic/{i}").volumes
            fake = generator(draws.normal(step, f"latent/{i}", (len(real), 3))).detach()
            distance = critic(real).mean() - critic(fake).mean()
            penalty = critic(real).square().mean()
            return penalty - distance, {"distance": distance.detach()}

        for i in range(self.critic_steps):
            yield Phase("critic", ("critic",), lambda i=i: critic_loss(i))
        yield Phase(
            "generator",
            ("generator",),
            lambda: (-critic(generator(draws.normal(step, "latent", (4, 3)))).mean(), {}),
        )

    def pictures(self, next_batch: Callable[[str], Batch], draws: Draws) -> Pictures:
        z = torch.from_numpy(draws.numpy(0, "samples").standard_normal((8, 3), dtype=np.float32))
        real = next_batch("pictures").volumes[:4]
        return Pictures(torch.cat([real, self.modules["generator"](z)]), columns=4)


def tiny_config(**train: Any) -> Config:
    defaults = {
        "steps": 6,
        "batch_size": 4,
        "device": "cpu",
        "deterministic": True,
        "checkpoint_every": 2,
        "sample_every": 3,
        "log_every": 1,
        "ema_decay": 0.9,
    }
    return parse({"name": "tiny", "train": defaults | train})


def rows(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what measures the machine."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    measured = ("volumes_per_second", "memory")
    return [{k: v for k, v in json.loads(r).items() if k not in measured} for r in lines]


def same_state(a: Path, b: Path) -> None:
    """Fail unless the newest checkpoints hold the same bits."""
    from fastgan.train import checkpoint

    first, second = checkpoint.newest(a), checkpoint.newest(b)
    assert first.step == second.step and first.counters == second.counters
    assert first.parts.keys() == second.parts.keys()
    for part, tensors in first.parts.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second.parts[part][name]), f"{part}/{name}"


def train(
    out: Path, steps: int, slow: float = 0.0, resume: Path | None = None, **settings: Any
) -> Path:
    from fastgan.train import fit
    from fastgan.train.progress import Progress

    config, variant = tiny_config(steps=steps, **settings), TinyVariant(slow=slow)
    quiet = Progress(steps, stream=io.StringIO())
    return fit(variant, TinyDataset(), config, out=out, resume=resume, progress=quiet).path
