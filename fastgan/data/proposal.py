"""A data section that fits the volumes found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgan.data.splits import holdout_subjects
from fastgan.terminal import counted

__all__ = ["BUDGET", "HOLDOUT", "FileFacts", "propose", "shape_within"]

BUDGET = 64**3  # voxels: what a first run fits on a small GPU
HOLDOUT = 0.2
FEW, LEAST_OTHERS = 0.1, 10  # share of all volumes, and how many those must be, of
DWARFED = 1.5  # times the voxels that a shape would have without these
STRIDE = 8  # three halvings of the default network


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


def propose(
    source: str, files: Sequence[FileFacts], budget: int, *, splits: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """(data section as a mapping, sentences on what it settles).

    Spacing is the median per axis. The shape is the smallest extent at that spacing, shrunk to the
    budget of voxels, each axis a multiple of 8 (of 2 below 8); where it holds most of every volume
    whole volumes are proposed, otherwise patches.

    Args:
        source: as it goes into the proposal.
        files: at least one.
        budget: most voxels of the shape.
        splits: that the manifest names.
    """
    notes: list[str] = []
    modality = _modality(files, notes)
    spacings = np.array([f.spacing for f in files])
    spacing = np.median(spacings, axis=0)
    if np.ptp(spacings, axis=0).max() > 0.01 * spacing.min():
        notes.append("voxel sizes differ: every volume is resampled to the median")
    extents = np.array([f.shape for f in files]) * spacings / spacing
    # Whole voxels as resampling will give them, so that a patch fits into every volume.
    extents = np.maximum(np.rint(extents), 1).astype(int)
    shape = shape_within(extents.min(axis=0), budget)
    whole = bool((extents <= np.array(shape) * 1.25).all())
    notes += _dwarfed(files, extents, shape, budget)
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
    low, high = min(f.low for f in files), max(f.high for f in files)
    if modality in ("map", "mask") and (low < -1e-3 or high > 1.0 + 1e-3):
        data["window"] = [low, high]
        notes.append(f"{modality} from {low:g} to {high:g}: this range is proposed as the window")
    if splits:
        says = (
            "who is held out" if "holdout" in splits else "that nobody is held out: no audit then"
        )
        notes.append(f"the manifest says {says}")
    elif len(subjects) > 1:
        held = holdout_subjects(subjects, HOLDOUT)
        notes.append(f"held out: {len(held)} of {len(subjects)} subjects")
    else:
        notes.append("one subject: nothing can be held out, and one anatomy teaches one anatomy")
    if any(f.warnings for f in files):
        notes.append(f"warnings: of {counted(sum(bool(f.warnings) for f in files), 'file')}")
    return data, notes


def shape_within(extents: Sequence[int] | np.ndarray, budget: int) -> list[int]:
    """Extents cut to the budget, the longest axis first, as multiples of the network's stride."""
    sizes = [_floor(int(n)) for n in extents]
    while math.prod(sizes) > budget and max(sizes) > 2:
        longest = sizes.index(max(sizes))
        sizes[longest] = _floor(sizes[longest] - 1)
    return sizes


def _dwarfed(
    files: Sequence[FileFacts], extents: np.ndarray, shape: Sequence[int], budget: int
) -> list[str]:
    """Which few volumes make the shape much smaller than it would be without them."""
    order = np.argsort((extents / np.median(extents, axis=0)).min(axis=1), kind="stable")
    for few in range(1, 1 + int(len(files) * FEW) if len(files) >= LEAST_OTHERS else 1):
        larger = shape_within(extents[order[few:]].min(axis=0), budget)
        if math.prod(larger) >= DWARFED * math.prod(shape):
            names = ", ".join(files[at].path for at in order[:few])
            return [
                f"shape would be {_text(larger)}, not {_text(shape)}, without {names}; --exclude "
                "leaves a file out"
            ]
    return []


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _modality(files: Sequence[FileFacts], notes: list[str]) -> str:
    modalities = Counter(f.modality for f in files)
    modality = modalities.most_common(1)[0][0]
    if len(modalities) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in modalities.most_common())
        notes.append(f"several modalities, {shown}: one network trains on one")
        others = [f for f in files if f.modality != modality]
        notes += [f"{f.path} looks like {f.modality}, most look like {modality}" for f in others]
    return modality


def _floor(extent: int) -> int:
    step = STRIDE if extent >= STRIDE else 2
    return max(extent // step * step, 2)
