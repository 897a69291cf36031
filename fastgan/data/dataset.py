"""A split of a data set, as the training loop and the audit draw from it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastgan.data.augment import apply, draw
from fastgan.data.cache import dequantise
from fastgan.data.manifest import Item
from fastgan.data.normalise import Normalisation, Values, denormalise
from fastgan.errors import ConfigError
from fastgan.random import Shard

__all__ = ["Batch", "Dataset"]


@dataclass(frozen=True)
class Batch:
    """Real volumes of one step.

    Attributes:
        volumes: [B, C, D, H, W] float32 in [-1, 1], channels_last_3d.
        labels: [B] int64 positions in the dataset's classes, or None without classes.
        index: [B] int64 positions in the dataset.
    """

    volumes: Tensor
    labels: Tensor | None
    index: Tensor


class Dataset:
    """Volumes of one split with everything known of them; it holds no random state.

    Args:
        stored: one [C, D, H, W] per item, int16 (value * 32767) or uint8 (0 to 255); memory maps
            welcome. At least `shape` along each axis.
        items: what they are, in the same order.
        shape: (D, H, W) of every volume drawn.
        spacing: mm along D, H, W.
        classes: names in the order of the labels; () draws without labels.
        normalisation: of all its volumes.
        fingerprint: sha256 hex of what was read.
        patch: draw a random crop instead of the centre.
        balanced: draw every class equally often.
        classic: kinds of `augment.KINDS` applied to what is drawn.
        records: the normalisation of each item where they differ.
        affines: [4, 4] of each stored array where known.
        held_out: names of the subjects of the other split where known.

    Raises:
        ConfigError: no items, an item without a known class, a class without items, or a volume
            smaller than `shape`.
    """

    def __init__(
        self,
        stored: Sequence[np.ndarray],
        items: Sequence[Item],
        *,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        classes: tuple[str, ...] = (),
        normalisation: Normalisation,
        fingerprint: str,
        patch: bool = False,
        balanced: bool = False,
        classic: Sequence[str] = (),
        records: Sequence[Normalisation] | None = None,
        affines: Sequence[np.ndarray] | None = None,
        held_out: Sequence[str] = (),
    ) -> None:
        if not items:
            raise ConfigError("data: this split holds no volumes")
        for volume, item in zip(stored, items, strict=True):
            if any(n < m for n, m in zip(volume.shape[1:], shape, strict=True)):
                raise ConfigError(
                    f"data.shape: {shape} does not fit into {item.path}, "
                    f"which has {volume.shape[1:]} voxels"
                )
        if balanced and not classes:
            raise ConfigError("data.sampler: balanced needs labels: set data.conditional")
        self.items, self.held_out = list(items), tuple(held_out)
        self.shape, self.spacing = shape, spacing
        self.channels = int(stored[0].shape[0])
        self.classes = tuple(classes)
        self.normalisation, self.fingerprint = normalisation, fingerprint
        self.records = list(records) if records is not None else [normalisation] * len(self.items)
        self.affines = None if affines is None else list(affines)
        self.patch, self.balanced, self.classic = patch, balanced, tuple(classic)
        self.stored = stored
        self.labels = self._labels()
        counts = np.bincount(self.labels, minlength=len(classes)) if classes else np.zeros(0)
        for name, count in zip(self.classes, counts, strict=True):
            if count == 0:
                raise ConfigError(f"data.conditional: no volume of class {name!r} in this split")
        self.prior = counts / max(counts.sum(), 1.0)

    def __len__(self) -> int:
        return len(self.items)

    def sample(
        self, batch_size: int, rng: np.random.Generator, shard: Shard | None = None
    ) -> Batch:
        """`batch_size` volumes drawn with replacement; the same generator state, the same batch.

        With `shard`, only its rows of volumes and labels are read; `index` is the whole batch's.
        """
        if batch_size < 1:
            raise ConfigError(f"train.batch_size: must be at least 1, got {batch_size}")
        if self.balanced:
            groups = rng.integers(0, len(self.classes), batch_size)
            index = np.array([rng.choice(np.nonzero(self.labels == g)[0]) for g in groups])
        else:
            index = rng.integers(0, len(self), batch_size)
        own = np.arange(batch_size) if shard is None else shard.of(torch.arange(batch_size)).numpy()
        corners = []
        for i in index:
            extents = self.stored[i].shape[1:]
            if self.patch:
                corner = [
                    int(rng.integers(0, n - m + 1))
                    for n, m in zip(extents, self.shape, strict=True)
                ]
            else:
                corner = [(n - m) // 2 for n, m in zip(extents, self.shape, strict=True)]
            corners.append(corner)
        volumes = torch.from_numpy(np.stack([self._crop(int(index[r]), corners[r]) for r in own]))
        if self.classic:
            drawn = draw(self.classic, batch_size, rng)
            volumes = apply(volumes, [drawn[r] for r in own], self.spacing)
        return Batch(
            volumes.contiguous(memory_format=torch.channels_last_3d),
            torch.from_numpy(self.labels[index[own]]) if self.classes else None,
            torch.from_numpy(index.astype(np.int64)),
        )

    def volume(self, i: int) -> np.ndarray:
        """[C, D, H, W] float32 in [-1, 1]: the centre of volume i, not augmented."""
        extents = self.stored[i].shape[1:]
        return self._crop(i, [(n - m) // 2 for n, m in zip(extents, self.shape, strict=True)])

    def affine(self, i: int) -> np.ndarray:
        """[4, 4] float64 of `volume(i)`, voxel index to mm; centred on 0 where none is known."""
        if self.affines is None:
            out = np.diag([*self.spacing, 1.0])
            out[:3, 3] = [-0.5 * (n - 1) * s for n, s in zip(self.shape, self.spacing, strict=True)]
            return out
        extents = self.stored[i].shape[1:]
        change = np.eye(4)
        change[:3, 3] = [(n - m) // 2 for n, m in zip(extents, self.shape, strict=True)]
        return self.affines[i] @ change

    def denormalise(self, volumes: Values) -> Values:
        """Physical units of values in [-1, 1], any shape, array or tensor.

        HU for CT with its window. MR has no common unit: each volume had its own range, and the
        set's median range is used.
        """
        return denormalise(volumes, self.normalisation)

    def subset(self, positions: Sequence[int]) -> Dataset:
        """The same data set with only some items, in the order given."""
        chosen = [int(i) for i in positions]
        facts = f"{self.fingerprint} {chosen}"
        return Dataset(
            [self.stored[i] for i in chosen],
            [self.items[i] for i in chosen],
            shape=self.shape,
            spacing=self.spacing,
            classes=self.classes,
            normalisation=self.normalisation,
            fingerprint=hashlib.sha256(facts.encode()).hexdigest(),
            patch=self.patch,
            balanced=self.balanced,
            classic=self.classic,
            records=[self.records[i] for i in chosen],
            affines=None if self.affines is None else [self.affines[i] for i in chosen],
            held_out=self.held_out,
        )

    def _crop(self, i: int, corner: Sequence[int]) -> np.ndarray:
        window = tuple(slice(c, c + m) for c, m in zip(corner, self.shape, strict=True))
        return dequantise(np.asarray(self.stored[i][(slice(None), *window)]))

    def _labels(self) -> np.ndarray:
        if not self.classes:
            return np.zeros(0, np.int64)
        place = {name: k for k, name in enumerate(self.classes)}
        unknown = Counter(item.label for item in self.items if item.label not in place)
        if unknown:
            raise ConfigError(
                f"data.conditional: labels {dict(unknown)} are not among {self.classes}"
            )
        return np.array([place[item.label] for item in self.items if item.label], np.int64)
