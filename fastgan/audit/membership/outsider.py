"""Attacks by somebody who has the generated volumes and nothing else.

A volume that was trained on may lie nearer to generated ones than a volume that was not. How near
it would lie anyway depends on how common its kind is, so the distance is also held against that to
other patients, of both sides alike: neither side is in its own reference more than the other.

Source: nearest generated volume and its calibration: Chen et al. 2020, "GAN-Leaks"; ratio of local
densities: van Breugel et al. 2023, "Membership inference attacks against synthetic data through
overfitting detection" (DOMIAS), here by nearest neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import Cohort
from fastgan.audit.membership.distances import Reals

__all__ = ["ATTACKS", "MOST_GENERATED", "Outsider"]

ATTACKS = ("nearest generated", "the same over nearest patient", "ratio of densities")
MOST_GENERATED = 1000
"""Generated volumes that are looked at."""


class Outsider:
    """Distances of generated volumes to real ones, and scores of patients from them.

    Args:
        reals: whose volumes are attacked.
        made: generated volumes, of which the first `MOST_GENERATED` are taken.
    """

    def __init__(self, reals: Reals, made: Cohort) -> None:
        self.reals = reals
        self.squares = reals.to(made.values[:MOST_GENERATED])
        """[P, G, N] squared distance of each generated volume to each pose of a real one."""

    def __len__(self) -> int:
        return self.squares.shape[1]

    def scores(self, squares: Tensor | None = None) -> Floats:
        """[3, n] scores of the patients by `ATTACKS`; higher is nearer.

        Args:
            squares: [P, G, N] squared distances; None: those of the volumes as they are.
        """
        return self._scores((self.squares if squares is None else squares).amin(0))

    def posing(self, posers: Bools) -> Floats:
        """[3, n] scores with the volumes of some patients [n] in place of generated ones.

        Those of the posing patients themselves mean nothing.
        """
        rows = torch.from_numpy(np.flatnonzero(posers[self.reals.patients.owner]))
        return self._scores(self.reals.others[rows])

    def pulled(self, strength: float, targets: Integers, rng: np.random.Generator) -> Floats:
        """[3, n] scores with every generated volume pulled towards a volume of `targets`.

        Each generated volume g becomes (1 - s) g + s t with t drawn among the targets, whose
        distances follow from those that are known, without a search.

        Args:
            strength: s; 0 leaves all as it is, 1 makes copies.
            targets: positions of real volumes.
            rng: of the draw.
        """
        drawn = torch.from_numpy(rng.choice(targets, len(self)))
        apart = self.squares[0, torch.arange(len(self)), drawn]
        squares = torch.lerp(self.squares, self.reals.squares[:, drawn], strength)
        squares -= strength * (1 - strength) * apart[:, None]
        return self.scores(squares)

    def _scores(self, squares: Tensor) -> Floats:
        """[3, n] scores of patients from squared distances [G, N]."""
        (one, some), (nearest, around) = self.reals.logs(squares), self.reals.reference
        of_volumes = torch.stack([-one, nearest - one, around - some])
        return self.reals.patients.mean(of_volumes.numpy())
