"""Which volumes there are and whose they are: by a manifest.csv, or by nnU-Net's dataset.json."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastgan.data.columns import Cell, read_table, typed
from fastgan.data.formats.table import SUFFIXES, parted
from fastgan.data.stream import open_regular
from fastgan.errors import BadFile
from fastgan.guarded import TEXT

__all__ = [
    "COLUMNS",
    "Item",
    "bids_subject",
    "read_dataset_json",
    "read_manifest",
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

# What other sheets call a known column, without blanks, underscores and hyphens.
OTHER_NAMES = (
    {name: "path" for name in ("file", "filename", "filepath", "image", "img", "nifti")}
    | {name: "subject" for name in ("patient", "patientid", "subjectid", "participantid", "case")}
    | {name: "label" for name in ("class", "target")}
    | {name: "site" for name in ("center", "centre", "institution", "hospital")}
    | {name: "split" for name in ("fold", "subset", "partition")}
)


@dataclass(frozen=True)
class Item:
    """One volume of a data set.

    Attributes:
        path: as `fastgan.data.read_volume` takes it, or "set#position" inside an archive of many.
        label: class; None where unknown.
        subject: person; splits never divide one.
        site, scanner: where it was taken; None where unknown.
        split: "train", "holdout", or None to be decided by a hash of the subject.
        modality: "ct", "mr", "map" or "mask"; None: the config's.
        attributes: what a bundled set knows of it, JSON-able.
        columns: further columns of the manifest by name.
        subject_named: False where the subject is the file's own name, for want of another.
    """

    path: str
    label: str | None
    subject: str
    site: str | None = None
    scanner: str | None = None
    split: str | None = None
    modality: str | None = None
    attributes: Mapping[str, float | str | None] = field(default_factory=dict)
    subject_named: bool = True
    columns: Mapping[str, Cell] = field(default_factory=dict)


def stem_of(path: Path | str) -> str:
    """File name without its volume suffix (and without nnU-Net's _0000).

    Of one volume out of several its number follows, of a DICOM series a hash of its UID.
    """
    file, part = parted(path)
    name = file.name
    suffix = next(
        (s for s in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(s)), ""
    )
    stem = re.sub(r"_0000$", "", name[: len(name) - len(suffix)])
    if part is None:
        return stem
    return f"{stem}-{part if part.isdecimal() else hashlib.sha256(part.encode()).hexdigest()[:8]}"


def subject_of(path: Path | str) -> str:
    """The BIDS "sub-XX" in the file's or a folder's name, nearest first; else the file's stem."""
    return bids_subject(path) or stem_of(path)


def bids_subject(path: Path | str) -> str | None:
    """The "sub-XX" in the file's or a folder's name, nearest first; None where there is none."""
    for part in reversed(Path(path).parts):
        found = re.match(r"(sub-[A-Za-z0-9]+)(?=[_.]|$)", part)
        if found:
            return found[1]
    return None


def read_manifest(path: Path | str) -> list[Item]:
    """Items of a table with the columns of COLUMNS; only `path` is required.

    Names of columns may be capitalised. Others are kept with each item, by type. Relative paths
    are of the manifest's folder. An empty subject is `subject_of` the path.

    Raises:
        BadFile: as `read_table`; a repeated column, one that looks like a mistyped known one, a
            missing file, one file twice, an unknown split or modality.
    """
    path = Path(path)
    table = read_table(path)
    columns = _known(table.columns, path)
    further = {
        name: typed([row[i] for row in table.rows], table.comma)
        for i, name in enumerate(columns)
        if name not in COLUMNS
    }
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, (row, line) in enumerate(zip(table.rows, table.lines, strict=True)):
        where = f"{path}: line {line}"
        item = _row_item(dict(zip(columns, row, strict=True)), path.parent, where)
        real = os.path.realpath(item.path)
        if real in seen:
            raise BadFile(f"{where}: path: {item.path} again, first in line {seen[real]}")
        seen[real] = line
        own = {name: cells[number] for name, cells in further.items()}
        items.append(replace(item, columns=own))
    if not items:
        raise BadFile(f"{path}: no rows")
    names = {name for name in further if _names_people(name, items)}
    return [
        replace(
            item,
            columns={
                name: Cell("text", cell.value) if name in names else cell
                for name, cell in item.columns.items()
            },
        )
        for item in items
    ]


def _names_people(column: str, items: Sequence[Item]) -> bool:
    """Whether each value of a category is of one subject alone: then it may be a name."""
    subjects: dict[object, set[str]] = {}
    for item in items:
        cell = item.columns[column]
        if cell.kind != "category":
            return False
        if cell.value is not None:
            subjects.setdefault(cell.value, set()).add(item.subject)
    return all(len(own) == 1 for own in subjects.values())


def _known(names: Sequence[str], path: Path) -> list[str]:
    """Column names with the known ones in lower case.

    Raises:
        BadFile: a name twice, no path, or a name near to that of a known column that is missing.
    """
    columns = [name.lower() if name.lower() in COLUMNS else name for name in names]
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise BadFile(f"{path}: columns: none may repeat, {twice[0]!r} does")
    for name in columns:
        if name in COLUMNS:
            continue
        near = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.8)
        meant = OTHER_NAMES.get(re.sub(r"[ _-]", "", name.lower()), near[0] if near else None)
        if meant is not None and meant not in columns:
            raise BadFile(
                f"{path}: column {name!r}: did you mean {meant!r}? rename it, or call it "
                f"something further from {meant!r}"
            )
    if "path" not in columns:
        raise BadFile(f"{path}: columns: 'path' is needed, got {', '.join(map(repr, columns))}")
    return columns


def _row_item(values: dict[str, str], folder: Path, where: str) -> Item:
    if not values["path"]:
        raise BadFile(f"{where}: path: empty")
    for column in COLUMNS:
        value = values.get(column, "")
        if len(value.splitlines()) > 1 or "\t" in value or "\0" in value:
            raise BadFile(
                f"{where}: {column}: {value[:80]!r} holds a line break, tab or zero byte, which "
                "no name needs; remove it"
            )
    file = folder / values["path"]
    if not parted(file)[0].exists():
        raise BadFile(f"{where}: path: {file} does not exist")
    # Volumes out of one file, or series of one folder, are of one subject unless a column says so.
    named = values["path"] if parted(file)[1] is None else values["path"].rpartition("#")[0]
    split = values.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise BadFile(f"{where}: split: {split!r} is not one of {', '.join(SPLITS)}")
    modality = (values.get("modality") or "").lower() or None
    if modality is not None and modality not in MODALITIES:
        raise BadFile(f"{where}: modality: {modality!r} is not one of {', '.join(MODALITIES)}")
    return Item(
        path=str(file),
        label=values.get("label") or None,
        subject=values.get("subject") or subject_of(named),
        subject_named=bool(values.get("subject") or bids_subject(named)),
        site=values.get("site") or None,
        scanner=values.get("scanner") or None,
        split=None if split is None else SPLITS[split.lower()],
        modality=modality,
    )


def read_dataset_json(path: Path | str) -> list[Item]:
    """Training images of an nnU-Net dataset.json: the first channel of each case in imagesTr.

    Its segmentations are no classes and are not read.

    Raises:
        BadFile: not JSON, a needed key is missing, or no images are found.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(TEXT).decode("utf-8"))
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
            subject_named=bids_subject(f.name) is not None,
        )
        for f in files
    ]
