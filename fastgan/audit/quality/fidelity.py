"""Do generated masks match held-out patients in size, form and novelty? One row per set of masks.

The columns are chosen so that no shortcut passes them all: a copier matches every shape and fails
the distance to the training set; a generator of sizes alone fails the form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fastgan.arrays import Floats, Integers
from fastgan.audit.rules import limit
from fastgan.audit.statistics import area_under_curve
from fastgan.errors import AuditError
from fastgan.measures.shape import ShapeStatistics, shape_statistics
from fastgan.ops import nearest

__all__ = ["LIMITS", "Masks", "Row", "compare", "ks_distance"]

LIMITS: dict[str, tuple[float, float]] = {
    "AUC gap": (0.0, limit("fidelity.auc_gap")),
    "KS volume": (0.0, limit("fidelity.ks_volume")),
    "KS surface": (0.0, limit("fidelity.ks_form")),
    "KS elongation": (0.0, limit("fidelity.ks_form")),
    "distance ratio": (limit("fidelity.nearest_low"), limit("fidelity.nearest_high")),
}
"""Column -> smallest and largest value that passes."""


@dataclass(frozen=True)
class Masks:
    """A set of labelled soft masks."""

    values: Floats
    """[N, D, H, W] in [0, 1]."""
    labels: Integers
    """[N] class of each."""


@dataclass(frozen=True)
class Row:
    """One set of masks against the held-out patients."""

    name: str
    values: dict[str, list[float]]
    """Column of `LIMITS` -> one value per class (one in all for the AUC gap)."""

    def failed(self) -> list[str]:
        """Columns in which any class is outside the limits."""
        return [
            column
            for column, (low, high) in LIMITS.items()
            if not all(low <= value <= high for value in self.values[column])
        ]


def ks_distance(a: Floats, b: Floats) -> float:
    """Two-sample Kolmogorov-Smirnov distance of [N] and [M] values; NaN counts as beyond all.

    >>> ks_distance(np.array([1.0, 2.0]), np.array([3.0]))
    1.0
    """
    a, b = (np.sort(np.nan_to_num(np.asarray(v, dtype=np.float64), nan=np.inf)) for v in (a, b))
    at = np.concatenate([a, b])
    gap = np.searchsorted(a, at, side="right") / len(a) - np.searchsorted(
        b, at, side="right"
    ) / len(b)
    return float(np.abs(gap).max())


def compare(
    candidates: dict[str, Masks], holdout: Masks, train: Masks, spacing: tuple[float, float, float]
) -> list[Row]:
    """Each candidate set, class by class, against held-out patients.

    Columns: the gap between the areas under the curve that volume alone reaches when it tells the
    two classes apart; Kolmogorov-Smirnov distances of volume, surface / volume^(2/3) and
    elongation; and the median Euclidean distance to the nearest training mask over that of the
    held-out masks (0 for copies, far above 1 for shapes no patient has). The distance is between
    the voxels as they are, faint background included; the shapes ignore it (`shape.body`).

    Args:
        candidates: name -> masks; every class of `holdout` must occur in each.
        holdout: masks of patients never used in training.
        train: masks the generator learned from.
        spacing: millimetres per voxel of D, H, W.

    Raises:
        AuditError: not exactly two classes, or a class without masks.

    Cost: one exact nearest-neighbour search, sum(N_candidates) x N_train x D H W.
    """
    classes = np.unique(holdout.labels)
    if len(classes) != 2:
        raise AuditError(f"compare: needs two classes in the hold-out set, got {len(classes)}")
    for name, masks in {**candidates, "training set": train}.items():
        missing = np.setdiff1d(classes, masks.labels)
        if len(missing):
            raise AuditError(f"compare: {name} has no mask of class {missing[0]}")
    reference = shape_statistics(holdout.values, spacing)
    reach = _nearest_distance(holdout, train)
    rows = []
    for name, masks in candidates.items():
        shapes = shape_statistics(masks.values, spacing)
        distance = _nearest_distance(masks, train)
        values: dict[str, list[float]] = {column: [] for column in LIMITS}
        gap = _volume_auc(shapes, masks.labels, classes)
        gap -= _volume_auc(reference, holdout.labels, classes)
        values["AUC gap"].append(abs(gap))
        for c in classes:
            ours, theirs = masks.labels == c, holdout.labels == c
            for column, field in (
                ("KS volume", "volume"),
                ("KS surface", "surface_ratio"),
                ("KS elongation", "elongation"),
            ):
                a, b = getattr(shapes, field)[ours], getattr(reference, field)[theirs]
                values[column].append(ks_distance(a, b))
            ratio = np.median(distance[ours]) / np.median(reach[theirs])
            values["distance ratio"].append(float(ratio))
        rows.append(Row(name, values))
    return rows


def _volume_auc(shapes: ShapeStatistics, labels: Integers, classes: Integers) -> float:
    return area_under_curve(*(shapes.volume[labels == c] for c in classes))


def _nearest_distance(query: Masks, target: Masks) -> Floats:
    # In steps of 1/255, in which integer arithmetic is exact and fast.
    ours, theirs = (
        torch.from_numpy(np.rint(255.0 * m.values).astype(np.uint8)).flatten(1)
        for m in (query, target)
    )
    distance: Floats = nearest(ours, theirs)[0][:, 0].numpy()
    return distance / 255.0
