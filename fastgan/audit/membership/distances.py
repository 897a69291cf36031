"""Distances between the real volumes of an attack, in the mirror images that training may show."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fastgan.arrays import Floats
from fastgan.audit.likeness.copy_search import coarse
from fastgan.audit.likeness.moves import MIRRORS
from fastgan.audit.membership.patients import Patients
from fastgan.errors import AuditError

__all__ = ["NEIGHBOURS", "Reals"]

NEIGHBOURS = 10
"""Nearest volumes from which a local density is told."""


class Reals:
    """The real volumes, how far they lie from each other, and how common the kind of each is.

    Distances are Euclidean, of volumes averaged to at most 32^3 voxels as they lie.

    Args:
        patients: whose volumes are attacked.
        mirrored: whether training mirrored volumes, or may have: all eight images then count.

    Raises:
        AuditError: fewer than 10 volumes of other patients.

    Cost: 2 P N^2 F operations and 4 P N^2 bytes for P poses and N volumes of F voxels.
    """

    def __init__(self, patients: Patients, *, mirrored: bool) -> None:
        if len(patients.owner) - np.bincount(patients.owner).max() < NEIGHBOURS:
            raise AuditError(f"needs {NEIGHBOURS} volumes of other patients to tell a density from")
        self.patients = patients
        real = torch.from_numpy(np.ascontiguousarray(coarse(patients.values)))
        # Mirrored alike, so that what is mirrored stays so; squares of small numbers lose less.
        self._middle = real.mean()
        self._poses = [
            (real - self._middle).flip([a + 1 for a in range(3) if mirror[a]]).flatten(1)
            for mirror in (MIRRORS if mirrored else MIRRORS[:1])
        ]
        self.squares = torch.stack([_squares(self._poses[0], pose) for pose in self._poses])
        """[P, N, N] squared distance of each volume to each pose of each."""
        positive = self.squares[self.squares > 0]
        # A copy is this near and no nearer: what is left of it is rounding.
        self._least = 1e-5 * float(positive.median()) if len(positive) else 1e-12
        own = torch.from_numpy(patients.owner)
        self.others = self.squares.amin(0)
        """[N, N] squared distance to the nearest pose, infinite within a patient."""
        self.others[own[:, None] == own] = torch.inf
        self.reference = self.logs(self.others)
        """[2, N] `logs` of the volumes of other patients, of both sides alike."""

    def to(self, values: Floats) -> Tensor:
        """[P, G, N] squared distances of volumes [G, D, H, W] to each pose of the real ones."""
        given = torch.from_numpy(np.ascontiguousarray(coarse(values))) - self._middle
        return torch.stack([_squares(given.flatten(1), pose) for pose in self._poses])

    def logs(self, squares: Tensor) -> Tensor:
        """[2, N] log of the smallest of squared distances [G, N], and mean of the ten smallest."""
        near = squares.topk(min(NEIGHBOURS, len(squares)), dim=0, largest=False).values
        logs = near.clamp(min=self._least).log()
        return torch.stack([logs.amin(0), logs.mean(0)])


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """[A, B] squared distances of rows."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return squares.addmm_(a, b.T, alpha=-2.0).clamp_(min=0.0)
