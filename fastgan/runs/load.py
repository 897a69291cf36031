"""A trained generator in Python: `fastgan.load("runs/00000-...").sample(8)`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastgan.data.normalise import denormalise
from fastgan.errors import ConfigError
from fastgan.guarded import typed
from fastgan.random import Draws
from fastgan.train import RunFolder, checkpoint, load_generator
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve

__all__ = ["Generator", "Samples", "load"]

MOST_VOLUMES = 10**7
UNITS = {
    "ct": "HU",
    "mr": "as in the training files, in the median range of their volumes",
    "map": "as in the training files",
    "mask": "share of a voxel that is inside, 0 to 1",
}
"""What a voxel of each modality is measured in."""


@dataclass(frozen=True)
class Samples:
    """Generated volumes as their files would hold them.

    Attributes:
        volumes: [N, C, D, H, W] float32 on the CPU, in `units`.
        units: what a voxel is measured in, such as "HU".
        affine: [4, 4] float64, voxel index to mm; axes right, front, head, the centre at 0.
        labels: class of each volume, () of an unconditional run.
    """

    volumes: Tensor
    units: str
    affine: np.ndarray
    labels: tuple[str, ...]


class Generator:
    """The averaged generator of a run. Made by `load`.

    Attributes:
        shape: (D, H, W) of a volume.
        spacing: mm along D, H, W.
        classes: names, () of an unconditional run.
        units, affine: as in `Samples`.
        channels, modality, device: of its volumes, and where it computes.
        suffix: `data.suffix` of the run, the contrast of its files in BIDS.

    Raises:
        ConfigError: the run is a cyclegan.
        StateError: the checkpoint is of another architecture.
    """

    def __init__(self, folder: RunFolder, found: Checkpoint, device: str = "auto") -> None:
        self._game = load_generator(folder, found)
        self.device = resolve(device)
        self._game.to(self.device)
        folder = folder.as_of(found)
        data = folder.data()
        self._normalisation, self._prior = data["normalisation"], np.asarray(data["prior"])
        self.shape: tuple[int, int, int] = tuple(data["shape"])
        self.spacing: tuple[float, float, float] = tuple(data["spacing"])
        self.classes = self._game.labels.classes
        self.channels = int(data["channels"])
        self.suffix = folder.config().data.suffix
        self.modality = str(self._normalisation["modality"])
        self.units = UNITS[self.modality]
        self.affine = np.diag([*self.spacing, 1.0])
        self.affine[:3, 3] = -0.5 * np.asarray(self.spacing) * (np.asarray(self.shape) - 1)

    def sample(self, count: int, label: str | None = None, seed: int = 0) -> Samples:
        """Draw `count` volumes; they are those that `fastgan generate` writes with this seed.

        Args:
            count: n >= 1.
            label: class of every volume; None: as often as in the training data.
            seed: >= 0; volume i is a function of (checkpoint, seed, i) and its class alone.

        Raises:
            ConfigError: a count, class or seed that cannot be.
        """
        labels = self.labels(count, label, seed)
        volumes = [torch.from_numpy(self.volume(i, k, seed)) for i, k in enumerate(labels)]
        names = tuple(self.classes[k] for k in labels if k is not None)
        return Samples(torch.stack(volumes), self.units, self.affine.copy(), names)

    def labels(
        self, count: int, label: str | None, seed: int, *, equal: bool = False
    ) -> Sequence[int | None]:
        """The class of each of `count` volumes, None without classes.

        Args:
            count: n >= 1.
            label: class of every volume, or None to draw them.
            seed: of the draw.
            equal: instead of drawing, every class equally often.
        """
        if not (1 <= count <= MOST_VOLUMES and 0 <= seed < 2**63):
            raise ConfigError(
                f"count must be >= 1, seed >= 0, at most {MOST_VOLUMES} and 2^63 - 1, got "
                f"{str(count)[:40]} and {str(seed)[:40]}"
            )
        if label is not None:
            if label not in self.classes:
                near = difflib.get_close_matches(label, self.classes, n=1)
                known = f"classes: {', '.join(self.classes) or 'none'}"
                hint = f"did you mean {near[0]!r}?" if near else known
                raise ConfigError(f"label: the run knows no class {label!r}; {hint}")
            return [self.classes.index(label)] * count
        if equal and self.classes:
            return [i % len(self.classes) for i in range(count)]
        if not self.classes:
            return [None] * count
        shares = self._prior / self._prior.sum()
        drawn = Draws(seed).numpy(0, "classes").choice(len(shares), count, p=shares)
        return [int(k) for k in drawn]

    def volume(self, number: int, label: int | None, seed: int) -> np.ndarray:
        """[C, D, H, W] float32 in `units`: volume `number` of a seed, of class `label`."""
        rng = Draws(seed).numpy(number, "generate")
        drawn = self._game.sample(1, label, rng)[0].float().cpu().numpy()
        return denormalise(drawn, self._normalisation)


@typed("the run")
def load(run: Path | str, *, step: int | None = None, device: str = "auto") -> Generator:
    """The generator of a run folder, with the averaged weights of a checkpoint.

    Args:
        run: run folder.
        step: of the checkpoint; None: the newest that verifies.
        device: as in `train.device`.

    Raises:
        ConfigError: the run is a cyclegan, or there is no such device.
        StateError, BadFile and its kinds: no run folder, or no checkpoint that verifies.
    """
    folder = RunFolder(run)
    if step is None:
        return Generator(folder, checkpoint.newest(folder.path), device)
    return Generator(folder, checkpoint.read(folder.path / f"ckpt-{step}"), device)
