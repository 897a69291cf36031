"""Which volumes there are, whose they are, and which are held out: CSV, folder or dataset.json."""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastgan.data.stream import open_regular
from fastgan.data.volume import SUFFIXES
from fastgan.errors import BadFile, ConfigError, UnsafeFile

__all__ = [
    "COLUMNS",
    "Item",
    "holdout_subjects",
    "read_dataset_json",
    "read_manifest",
    "scan_folder",
    "split_items",
    "stem_of",
    "subject_of",
]

COLUMNS = ("path", "label", "subject", "site", "scanner", "split", "modality")
MODALITIES = ("ct", "mr", "map", "mask")
# Names other tools give; whatever is not for training is held out.
SPLITS = {
    "train": "train",
    "training": "train",
    "holdout": "holdout",
    "val": "holdout",
    "valid": "holdout",
    "validation": "holdout",
    "test": "holdout",
}


@dataclass(frozen=True)
class Item:
    """One volume of a data set.

    Attributes:
        path: file, or "set#position" inside an archive of many.
        label: class; None where unknown.
        subject: person; splits never divide one.
        site, scanner: where it was taken; None where unknown.
        split: "train", "holdout", or None to be decided by a hash of the subject.
        modality: "ct", "mr", "map" or "mask"; None: the config's.
        attributes: whatever else is known of it, JSON-able.
        subject_named: False where the subject is the file's own name, for want of another.
    """

    path: str
    label: str | None
    subject: str
    site: str | None = None
    scanner: str | None = None
    split: str | None = None
    modality: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    subject_named: bool = True


def stem_of(path: Path | str) -> str:
    """File name without its volume suffix (and without nnU-Net's _0000)."""
    name = Path(path).name
    suffix = next(
        (s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), ""
    )
    return re.sub(r"_0000$", "", name[: len(name) - len(suffix)])


def subject_of(path: Path | str) -> str:
    """The BIDS "sub-XX" in the file's or a folder's name, nearest first; else the file's stem."""
    return _bids_subject(path) or stem_of(path)


def _bids_subject(path: Path | str) -> str | None:
    for part in reversed(Path(path).parts):
        found = re.match(r"(sub-[A-Za-z0-9]+)(?=[_.]|$)", part)
        if found:
            return found[1]
    return None


def read_manifest(path: Path | str) -> list[Item]:
    """Items of a CSV with the columns of COLUMNS; only `path` is required.

    Relative paths are of the manifest's folder. An empty subject is `subject_of` the path.

    Raises:
        BadFile: not UTF-8 CSV, an unknown or repeated column, a row too long or short, a missing
            file, one file twice, an unknown split or modality.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            rows = list(csv.reader(file.read().decode("utf-8-sig").splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(f"{path}: not CSV in UTF-8: {error}") from None
    if not rows:
        raise BadFile(f"{path}: no header line")
    columns = [name.strip() for name in rows[0]]
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(COLUMNS)}"
            raise BadFile(f"{path}: unknown column {name!r}{hint}")
    if len(set(columns)) != len(columns) or "path" not in columns:
        raise BadFile(f"{path}: columns: 'path' is needed and none may repeat, got {columns}")
    items: list[Item] = []
    seen: dict[str, int] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        where = f"{path}: line {line}"
        if len(row) != len(columns):
            raise BadFile(f"{where}: {len(row)} values for {len(columns)} columns")
        values = dict(zip(columns, (value.strip() for value in row), strict=True))
        item = _row_item(values, path.parent, where)
        real = os.path.realpath(item.path)
        if real in seen:
            raise BadFile(f"{where}: path: {item.path} again, first in line {seen[real]}")
        seen[real] = line
        items.append(item)
    if not items:
        raise BadFile(f"{path}: no rows")
    return items


def _row_item(values: dict[str, str], folder: Path, where: str) -> Item:
    if not values["path"]:
        raise BadFile(f"{where}: path: empty")
    file = folder / values["path"]
    if not file.exists():
        raise BadFile(f"{where}: path: {file} does not exist")
    split = values.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise BadFile(f"{where}: split: {split!r} is not one of {', '.join(SPLITS)}")
    modality = (values.get("modality") or "").lower() or None
    if modality is not None and modality not in MODALITIES:
        raise BadFile(f"{where}: modality: {modality!r} is not one of {', '.join(MODALITIES)}")
    return Item(
        path=str(file),
        label=values.get("label") or None,
        subject=values.get("subject") or subject_of(values["path"]),
        subject_named=bool(values.get("subject") or _bids_subject(values["path"])),
        site=values.get("site") or None,
        scanner=values.get("scanner") or None,
        split=None if split is None else SPLITS[split.lower()],
        modality=modality,
    )


def scan_folder(folder: Path | str, *, labels_from_folders: bool = False) -> list[Item]:
    """Items of every volume file below a folder, sorted by path; links are refused.

    Sub-folders are only folders: they become labels if `labels_from_folders` is asked and every
    file lies exactly one level deep; any other depth is then an error, not a guess.

    Raises:
        BadFile: no such folder, or no volumes in it.
        UnsafeFile: a symbolic link below it.
        ConfigError: labels asked of a folder that does not hold one level of sub-folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder")
    files = []
    for at, folders, names in os.walk(folder, onerror=_raise_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (Path(at) / name).is_symlink():
                raise UnsafeFile(f"{Path(at) / name}: a symbolic link to a folder")
        files += [
            Path(at) / name
            for name in sorted(names)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    files.sort()
    if not files:
        raise BadFile(f"{folder}: no volumes ({', '.join(SUFFIXES)}) in it")
    relative = [file.relative_to(folder) for file in files]
    if labels_from_folders and any(len(name.parts) != 2 for name in relative):
        raise ConfigError(
            f"data.conditional: {folder}: labels are taken from sub-folders only where every file "
            "lies in exactly one; write a manifest.csv with a label column"
        )
    items = [
        Item(
            str(file),
            name.parts[0] if labels_from_folders else None,
            subject_of(name),
            subject_named=_bids_subject(name) is not None,
        )
        for file, name in zip(files, relative, strict=True)
    ]
    return items


def read_dataset_json(path: Path | str) -> list[Item]:
    """Training images of an nnU-Net dataset.json: the first channel of each case in imagesTr.

    Its segmentations are no classes and are not read.

    Raises:
        BadFile: not JSON, a needed key is missing, or no images are found.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = json.loads(file.read().decode("utf-8"))
        channels = content.get("channel_names") or content["modality"]
        ending = str(content.get("file_ending", ".nii.gz"))
        first = str(channels["0"])
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise BadFile(f"{path}: not an nnU-Net dataset.json: {error}") from None
    files = sorted((path.parent / "imagesTr").glob(f"*_0000{ending}"))
    if not files:
        raise BadFile(f"{path}: no imagesTr/*_0000{ending} beside it")
    modality = "ct" if first.upper() == "CT" else "mr"
    return [
        Item(
            str(f),
            None,
            subject_of(f.name),
            modality=modality,
            subject_named=_bids_subject(f.name) is not None,
        )
        for f in files
    ]


def holdout_subjects(subjects: Iterable[str], share: float) -> set[str]:
    """The subjects never trained on: those whose hash falls below `share`.

    A subject's place depends on its name alone, so adding others never moves it. Where chance
    would hold out none, or all, of two or more subjects, the one with the lowest or highest hash
    is moved.

    Args:
        subjects: names, repeats allowed.
        share: 0 <= share < 1.
    """
    place = {
        s: int.from_bytes(hashlib.blake2b(s.encode(), digest_size=8).digest()) / 2.0**64
        for s in set(subjects)
    }
    held = {s for s, at in place.items() if at < share}
    if share > 0.0 and len(place) > 1:
        if not held:
            held = {min(place, key=lambda s: (place[s], s))}
        elif len(held) == len(place):
            held.remove(max(place, key=lambda s: (place[s], s)))
    return held


def split_items(items: Sequence[Item], share: float) -> list[Item]:
    """Items with their split filled in; a split column given wins.

    Raises:
        ConfigError: some rows name a split and some do not, or a subject is in both.
    """
    named = [item for item in items if item.split is not None]
    if not named:
        held = holdout_subjects((item.subject for item in items), share)
        return [replace(i, split="holdout" if i.subject in held else "train") for i in items]
    if len(named) < len(items):
        raise ConfigError(f"split: {len(items) - len(named)} of {len(items)} rows name none")
    by_split = {s: {i.subject for i in items if i.split == s} for s in ("train", "holdout")}
    both = sorted(by_split["train"] & by_split["holdout"])
    if both:
        raise ConfigError(
            f"split: subject {both[0]!r} is in train and in holdout ({len(both)} such subjects)"
        )
    return list(items)


def _raise_unreadable(error: OSError) -> None:
    raise BadFile(f"{error.filename}: cannot list: {error.strerror}") from error
