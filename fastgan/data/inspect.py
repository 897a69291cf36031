"""What a folder of unknown volumes holds, and a config that fits it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.data.bundled import LIDC
from fastgan.data.manifest import Item, holdout_subjects
from fastgan.data.sources import find_items
from fastgan.data.volume import Volume, read_volume
from fastgan.errors import BadFile, FastganError

__all__ = ["BUDGET", "FileFacts", "Inspection", "Refused", "guess_modality", "inspect"]

BUDGET = 64**3  # voxels: what a first run fits on a small GPU
HOLDOUT = 0.2
STRIDE = 8  # three halvings of the default network
AIR = -200.0  # HU; MR and maps have no such values, CT nearly always


@dataclass(frozen=True)
class FileFacts:
    """One readable volume; shape and spacing in right, front, up order."""

    path: str
    subject: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    dtype: str
    low: float
    high: float
    modality: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """One file that cannot be used, and why."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect`.

    Attributes:
        source: what was looked at.
        files: readable volumes.
        refused: the others; training refuses to start while they are there.
        proposal: a mapping `fastgan.config.parse` accepts unchanged.
        notes: what a person should know before following the proposal.
    """

    source: str
    files: tuple[FileFacts, ...]
    refused: tuple[Refused, ...]
    proposal: dict[str, Any]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "source": self.source,
            "files": [asdict(f) for f in self.files],
            "refused": [asdict(r) for r in self.refused],
            "proposal": self.proposal,
            "notes": list(self.notes),
        }


def inspect(source: Path | str, *, budget: int = BUDGET) -> Inspection:
    """Read every volume of a folder or manifest and propose how to train on it.

    Spacing is the median per axis. The shape is the smallest extent at that spacing, shrunk to the
    budget of voxels, each axis a multiple of 8 (of 2 below 8); where it holds most of every volume
    whole volumes are proposed, otherwise patches. A file that cannot be read is listed, not raised.

    Args:
        source: folder, manifest.csv, dataset.json, or the name of the bundled set.
        budget: most voxels of the proposed shape.

    Raises:
        BadFile, ConfigError: the source itself cannot be used, or none of its files can.
    """
    if str(source) == LIDC:
        note = "bundled masks of 48 mm cubes; 48 x 48 x 48 is the other size"
        data = {"source": LIDC, "shape": [32, 32, 32], "modality": "mask", "holdout": HOLDOUT}
        return Inspection(LIDC, (), (), {"data": data}, (note,))
    files, refused = [], []
    for item in find_items(Path(source)):
        try:
            files.append(_facts(item))
        except FastganError as error:
            refused.append(Refused(item.path, type(error).__name__, str(error)))
    if not files:
        raise BadFile(
            f"{source}: none of {len(refused)} files is readable; first: {refused[0].reason}"
        )
    data, notes = _propose(str(source), files, budget)
    if refused:
        notes.append(f"{len(refused)} files are refused: repair them or leave them out")
    return Inspection(str(source), tuple(files), tuple(refused), {"data": data}, tuple(notes))


def guess_modality(volume: Volume) -> str:
    """One of "ct", "mr", "map", "mask", from the values: air in HU, 0 to 1, two levels.

    Integers from 0 up with few levels are taken for MR, not for label maps.
    """
    array = volume.array
    low, high = float(array.min()), float(array.max())
    if low < AIR:
        return "ct"
    if low >= 0.0 and high <= 1.0:
        sample = np.unique(array.reshape(-1)[:: max(1, array.size // 100_000)])
        return "mask" if len(sample) <= 2 else "map"
    return "mr"


def _facts(item: Item) -> FileFacts:
    volume = read_volume(item.path)
    shape, source = volume.array.shape, volume.source
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise BadFile(f"{item.path}: constant volume, every voxel is {low:g}")
    return FileFacts(
        item.path,
        item.subject,
        (shape[0], shape[1], shape[2]),
        volume.spacing,
        source.orientation.codes,
        source.dtype,
        low,
        high,
        item.modality or guess_modality(volume),
        source.warnings,
    )


def _propose(
    source: str, files: Sequence[FileFacts], budget: int
) -> tuple[dict[str, Any], list[str]]:
    notes = []
    modalities = Counter(f.modality for f in files)
    modality = modalities.most_common(1)[0][0]
    if len(modalities) > 1:
        notes.append(f"several modalities {dict(modalities)}: one network trains on one")
    spacings = np.array([f.spacing for f in files])
    spacing = np.median(spacings, axis=0)
    if np.ptp(spacings, axis=0).max() > 0.01 * spacing.min():
        notes.append("voxel sizes differ: every volume is resampled to the median")
    extents = np.array([f.shape for f in files]) * spacings / spacing
    # Whole voxels as resampling will give them, so that a patch fits into every volume.
    extents = np.maximum(np.rint(extents), 1).astype(int)
    shape = _shape(extents.min(axis=0), budget)
    whole = bool((extents <= np.array(shape) * 1.25).all())
    if not whole:
        notes.append(
            "shape is smaller than the volumes: random patches; for whole volumes raise "
            "data.spacing or the budget"
        )
    if (extents < shape).any():
        notes.append("some volumes are smaller than the shape and are padded with the low value")
        whole = True
    subjects = {f.subject for f in files}
    data: dict[str, Any] = {
        "source": source,
        "shape": shape,
        "spacing": [round(float(s), 4) for s in spacing],
        "sampling": "whole" if whole else "patch",
        "modality": modality,
        "holdout": HOLDOUT if len(subjects) > 1 else 0.0,
    }
    if len(subjects) > 1:
        held = holdout_subjects(subjects, HOLDOUT)
        notes.append(f"{len(held)} of {len(subjects)} subjects are held out")
    else:
        notes.append("one subject: nothing can be held out, and one anatomy teaches one anatomy")
    if any(f.warnings for f in files):
        notes.append(f"{sum(bool(f.warnings) for f in files)} files have header warnings")
    return data, notes


def _shape(extents: np.ndarray, budget: int) -> list[int]:
    """Extents cut to the budget, the longest axis first, as multiples of the network's stride."""
    sizes = [_floor(int(n)) for n in extents]
    while math.prod(sizes) > budget and max(sizes) > 2:
        longest = sizes.index(max(sizes))
        sizes[longest] = _floor(sizes[longest] - 1)
    return sizes


def _floor(extent: int) -> int:
    step = STRIDE if extent >= STRIDE else 2
    return max(extent // step * step, 2)
