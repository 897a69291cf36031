"""Feature vectors of synthetic patients: three kinds of data for sizes and power of the audit."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Floats, Integers

__all__ = ["KINDS", "Population"]

KINDS = ("gaussian", "manifold", "mixture")
FEATURES = 32


class Population:
    """A distribution of patients' feature vectors, drawn once by a seed.

    gaussian: 32 independent normal features. manifold: 4 latent numbers, curved into 32 features,
    with a little noise. mixture: 8 normal clusters of unequal weight, spread and direction.

    Volumes of one subject share 3/4 of their variance where a subject has several.
    """

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind = kind
        self.turn = rng.standard_normal((4, FEATURES)) * 1.5
        self.phase = rng.uniform(0, 2 * np.pi, FEATURES)
        self.centre = 2 * rng.standard_normal((8, FEATURES))
        self.spread = np.exp(0.7 * rng.standard_normal((8, FEATURES)))
        self.weight = rng.dirichlet(np.full(8, 2.0))

    def draw(
        self, subjects: int, volumes: int, rng: np.random.Generator
    ) -> tuple[Floats, Integers]:
        """Features [subjects * volumes, 32] float32 and the subject of each."""
        share = 1.0 if volumes == 1 else 0.75
        owner = np.repeat(np.arange(subjects), volumes)

        def latent(width: int) -> Floats:
            own = rng.standard_normal((subjects, width))
            each = rng.standard_normal((len(owner), width))
            mixed: Floats = np.sqrt(share) * own[owner] + np.sqrt(1 - share) * each
            return mixed

        if self.kind == "gaussian":
            features = latent(FEATURES)
        elif self.kind == "manifold":
            features = np.sin(latent(4) @ self.turn / 2 + self.phase)
            features = features + 0.05 * latent(FEATURES)
        else:
            cluster = rng.choice(8, subjects, p=self.weight)[owner]
            features = self.centre[cluster] + self.spread[cluster] * latent(FEATURES)
        return features.astype(np.float32), owner
