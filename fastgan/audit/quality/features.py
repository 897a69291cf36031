"""What of a volume is compared when sets are: an encoder, or numbers computed from its voxels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastgan.measures.shape import shape_statistics

__all__ = ["Features", "PyramidFeatures", "standardised"]

Floats = NDArray[np.floating]


class Features(Protocol):
    """Numbers that describe volumes."""

    @property
    def name(self) -> str:
        """In sentences: what computed them."""

    @property
    def digest(self) -> str:
        """Hash of all that they depend on but the volumes; stands beside every number."""

    def __call__(self, values: Floats) -> Floats:
        """Volumes [N, D, H, W] in [-1, 1] to features [N, F]."""


@dataclass(frozen=True)
class PyramidFeatures:
    """Means over blocks, 1, 2 and 4 along each axis, and their spread; of masks their shape, too.

    Deterministic and cheap: they see size, place, coarse form and brightness, no texture. An
    encoder sees more, but what it sees depends on what it was trained for.
    """

    modality: str
    """"mask" adds the logarithm of the volume, surface / volume^(2/3) and elongation."""
    spacing: tuple[float, float, float]

    @property
    def name(self) -> str:
        """What these features are."""
        shapes = " and shape" if self.modality == "mask" else ""
        return f"block means in a pyramid{shapes}"

    @property
    def digest(self) -> str:
        """Of the settings and the protocol's version."""
        settings = f"pyramid-1 {self.modality} {self.spacing}"
        return hashlib.sha256(settings.encode()).hexdigest()[:12]

    def __call__(self, values: Floats) -> Floats:
        """Volumes [N, D, H, W] to features [N, F] float64."""
        values = np.asarray(values, dtype=np.float32)
        columns = [values.reshape(len(values), -1).std(axis=1, dtype=np.float64)[:, None]]
        for parts in (1, 2, 4):
            columns.append(_block_means(values, parts).reshape(len(values), -1))
        if self.modality == "mask":
            shape = shape_statistics(np.clip((values + 1) / 2, 0, 1), self.spacing)
            # An empty mask has no form; its volume says so.
            form = [np.nan_to_num(f) for f in (shape.surface_ratio, shape.elongation)]
            columns.append(np.stack([np.log(shape.volume + 1.0), *form], axis=1))
        return np.concatenate(columns, axis=1)


def _block_means(values: Floats, parts: int) -> Floats:
    """[N, p, p, p] means over `parts` blocks along each axis, as equal as the grid allows."""
    out = np.asarray(values, dtype=np.float64)
    for axis in (1, 2, 3):
        n = out.shape[axis]
        count = min(parts, n)
        edges = np.linspace(0, n, count + 1).round().astype(np.int64)
        sizes = np.diff(edges).reshape([-1 if i == axis else 1 for i in range(4)])
        out = np.add.reduceat(out, edges[:-1], axis=axis) / sizes
    return out


def standardised(reference: Floats, *others: Floats) -> list[Floats]:
    """The other features, less the mean and over the deviation of the reference [N, F].

    Columns in which the reference does not vary are left out. Beyond 5 deviations values count as
    5: the kernel is cubic, and a single volume would decide.
    """
    mean, sd = reference.mean(axis=0), reference.std(axis=0)
    kept = sd > 1e-9 * np.maximum(1.0, np.abs(mean))
    return [np.clip((other[:, kept] - mean[kept]) / sd[kept], -5, 5) for other in others]
