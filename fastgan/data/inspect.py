"""What a folder of unknown volumes holds, and a config that fits it."""

from __future__ import annotations

import contextlib
import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.data.bundled import LIDC, Archive, read_archive
from fastgan.data.geometry import Orientation
from fastgan.data.guess import contrast_of, doubts, guess_modality
from fastgan.data.listing import Selection, relative, suffix_of
from fastgan.data.manifest import Item
from fastgan.data.normalise import intensity_range
from fastgan.data.proposal import BUDGET, HOLDOUT, FileFacts, propose
from fastgan.data.sources import is_archive, list_source
from fastgan.data.summary import Summary, folders_are_people, mixed_contrasts, summarise
from fastgan.data.volume import Source, Volume, read_volume
from fastgan.errors import (
    BadFile,
    ConfigError,
    CorruptFile,
    FastganError,
    ResourceLimit,
    UnsafeFile,
)
from fastgan.guarded import typed
from fastgan.terminal import counted

__all__ = ["BUDGET", "FileFacts", "Inspection", "Refused", "guess_modality", "inspect"]

ADVICE: dict[type[FastganError], str] = {
    CorruptFile: "damaged: copy or export it again, or leave it out",
    UnsafeFile: "put the file itself there, or leave it out",
    ResourceLimit: "cut it, or leave it out",
}


@dataclass(frozen=True)
class Refused:
    """One file that cannot be used, and why.

    Attributes:
        path: as it was found.
        kind: name of the error.
        reason: file, what was found, what to do.
        pattern: what leaves it out, for `data.exclude`.
    """

    path: str
    kind: str
    reason: str
    pattern: str


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect`.

    Attributes:
        source: what was looked at.
        files: readable volumes.
        refused: the others; training refuses to start while they are there.
        summary: who and what the volumes are of.
        unread: kind to count of files that hold no volume.
        proposal: a mapping `fastgan.config.parse` accepts unchanged.
        notes: what a person should know before following the proposal.
    """

    source: str
    files: tuple[FileFacts, ...]
    refused: tuple[Refused, ...]
    summary: Summary | None
    unread: dict[str, int]
    proposal: dict[str, Any]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {
            "source": self.source,
            "files": [asdict(f) for f in self.files],
            "refused": [asdict(r) for r in self.refused],
            "summary": None if self.summary is None else asdict(self.summary),
            "unread": self.unread,
            "proposal": self.proposal,
            "notes": list(self.notes),
        }


@typed("the data")
def inspect(
    source: Path | str, *, budget: int = BUDGET, selection: Selection | None = None
) -> Inspection:
    """Read every volume of a folder or manifest and propose how to train on it.

    A file that cannot be read, holds one value alone or is a label map is listed, not raised. Of
    several contrasts that the file names tell apart, the most frequent is proposed.

    Args:
        source: folder, manifest.csv, dataset.json, .npz of many volumes, or the name of the
            bundled set.
        budget: most voxels of the proposed shape.
        selection: which files are meant; goes into the proposal.

    Raises:
        BadFile, ConfigError: the source itself cannot be used, or none of its files can.
    """
    selection = selection or Selection()
    if str(source) == LIDC:
        note = "bundled masks of 48 mm cubes; 48 x 48 x 48 is the other size"
        data = {"source": LIDC, "shape": [32, 32, 32], "modality": "mask", "holdout": HOLDOUT}
        return Inspection(LIDC, (), (), None, {}, {"data": data}, (note,))
    root = Path(source)
    if is_archive(root):
        archive = read_archive(root)
        return _proposed(str(source), _facts_of(archive), (), archive.items, {}, [], budget)
    listing = list_source(root, selection=selection)
    taken: list[str] = []
    if selection.subjects is None and root.is_dir() and folders_are_people(listing.items):
        by_folder = replace(selection, subjects="folders")
        # A list of volumes beside them, or a volume in no folder: the notes say what to do.
        with contextlib.suppress(ConfigError):
            listing, selection = list_source(root, selection=by_folder), by_folder
            taken.append(
                "files of the same names lie in many folders, so each folder is taken for a person "
                "(data.subjects: folders); where it is not, say --subjects names"
            )
    files, refused = [], []
    below = root if root.is_dir() else root.parent
    for item in listing.items:
        try:
            files.append(_facts(item))
        except FastganError as error:
            pattern = glob.escape(relative(item.path, below))
            kind = type(error).__name__
            refused.append(Refused(item.path, kind, _with_advice(error), pattern))
    if not files:
        raise BadFile(
            f"{source}: no readable volume; refused: {counted(len(refused), 'file')}, the first: "
            f"{refused[0].reason}"
        )
    notes = [*listing.notes(), *taken]
    items = listing.items
    if refused:
        notes.append(f"refused: {counted(len(refused), 'file')}; to be repaired or left out")
        gone = {one.path for one in refused}
        items = [item for item in items if item.path not in gone]
    if selection.suffix is None and mixed_contrasts(items):
        suffix = Counter(suffix_of(item.path) for item in items).most_common(1)[0][0]
        if contrast_of(suffix) is not None:
            selection = replace(selection, suffix=suffix)
            notes.append(f"the proposal takes the files that end in {suffix} alone (data.suffix)")
    unread = dict(listing.unread)
    return _proposed(str(source), files, tuple(refused), items, unread, notes, budget, selection)


def _proposed(
    source: str,
    files: Sequence[FileFacts],
    refused: tuple[Refused, ...],
    items: Sequence[Item],
    unread: dict[str, int],
    notes: list[str],
    budget: int,
    selection: Selection | None = None,
) -> Inspection:
    chosen = selection or Selection()
    taken = [f for f in files if chosen.suffix in (None, suffix_of(f.path))]
    splits = {item.split for item in items if item.split is not None}
    data, more = propose(source, taken, budget, splits=splits)
    summary = summarise(items, data["holdout"])
    keys = {
        "suffix": chosen.suffix,
        "exclude": list(chosen.exclude),
        "volume": chosen.volume,
        "subjects": chosen.subjects,
    }
    data |= {key: value for key, value in keys.items() if value not in (None, [])}
    if summary.classes:
        data["conditional"] = True
        more.append(f"classes {', '.join(summary.classes)}: conditional training is proposed")
    every = (*notes, *more, *summary.notes)
    return Inspection(source, tuple(files), refused, summary, unread, {"data": data}, every)


def _with_advice(error: FastganError) -> str:
    """What is wrong and, behind a semicolon, what to do: what holds for all of a kind."""
    text = str(error)
    return text if ";" in text else f"{text}; {ADVICE.get(type(error), 'leave it out')}"


def _facts(item: Item) -> FileFacts:
    return _facts_from(read_volume(item.path), item)


def _facts_from(volume: Volume, item: Item) -> FileFacts:
    shape, source = volume.array.shape, volume.source
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        raise BadFile(f"{item.path}: constant volume, every voxel is {low:g}; leave it out")
    found = guess_modality(volume)
    if item.modality in (None, "ct", "mr") and found == "labels":
        raise BadFile(
            f"{item.path}: a label map (whole numbers in regions of one value), no image; leave it "
            "out, or make a mask of 0 and 1 of each label"
        )
    warnings = source.warnings
    if item.modality in ("ct", "mr"):
        intensity_range(volume, item.modality)  # raises what training would
    if item.modality is not None:
        warnings += tuple(doubts(volume, item.modality))
    return FileFacts(
        item.path,
        item.subject,
        (shape[0], shape[1], shape[2]),
        volume.spacing,
        source.orientation.codes,
        source.dtype,
        low,
        high,
        item.modality or found,
        warnings,
    )


def _facts_of(archive: Archive) -> list[FileFacts]:
    """Of an archive the facts of each volume; all share one grid."""
    facts = []
    affine = np.diag([*archive.spacing, 1.0])
    upright = Orientation((0, 1, 2), (False, False, False))
    for array, item in zip(archive.arrays, archive.items, strict=True):
        name = archive.arrays.dtype.name
        source = Source(item.path, affine, upright, array.shape, name, 1.0, 0.0, archive.digest)
        facts.append(_facts_from(Volume(array.astype(np.float32), affine, source), item))
    return facts
