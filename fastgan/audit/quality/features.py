"""Sets of volumes are compared by these numbers, computed from their voxels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Floats
from fastgan.measures.descriptors import block_means
from fastgan.measures.shape import shape_statistics

__all__ = ["PyramidFeatures"]


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
            columns.append(block_means(values.astype(np.float64), parts, rounded=True))
        if self.modality == "mask":
            shape = shape_statistics(np.clip((values + 1) / 2, 0, 1), self.spacing)
            # An empty mask has no form; its volume says so.
            form = [np.nan_to_num(f) for f in (shape.surface_ratio, shape.elongation)]
            columns.append(np.stack([np.log(shape.volume + 1.0), *form], axis=1))
        return np.concatenate(columns, axis=1)
