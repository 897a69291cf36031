"""What a source holds: the volumes in it, and, by kind and count, what is not read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastgan.data.columns import Cell, read_table, typed
from fastgan.data.formats.analyze import halves
from fastgan.data.formats.table import DICOM, FORMATS, SUFFIXES, joined, parted
from fastgan.data.manifest import Item, bids_subject, stem_of, subject_of
from fastgan.data.series import dicom_items
from fastgan.data.unread import kind_of
from fastgan.data.volume import read_head
from fastgan.errors import BadFile, ConfigError, FastganError, UnsafeFile
from fastgan.terminal import counted

if TYPE_CHECKING:
    from fastgan.config import DataConfig

__all__ = [
    "Listing",
    "Selection",
    "list_beside",
    "list_folder",
    "relative",
    "scan_folder",
    "select",
    "suffix_of",
]

NOT_RAW = ("derivatives", "sourcedata", "code", "stimuli")  # beside the subjects of a BIDS set
PARTICIPANTS = "participants.tsv"
PARTNERS = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz")  # belong to a header beside them


@dataclass(frozen=True)
class Selection:
    """Which of the volumes found are meant.

    Attributes:
        suffix: last part of a file's name, as T1w in BIDS; None: all.
        exclude: patterns of paths, names or folders to leave out.
        volume: of files that hold several: which one, or each as a volume; None: an error then.
        subjects: "names" or None: of whom a volume is, its name or header says. "folders": the
            first folder below the source does, whatever these say.
    """

    suffix: str | None = None
    exclude: tuple[str, ...] = ()
    volume: int | Literal["each"] | None = None
    subjects: Literal["names", "folders"] | None = None

    @classmethod
    def of(cls, config: DataConfig) -> Selection:
        """What a configuration selects."""
        return cls(config.suffix, config.exclude, config.volume, config.subjects)


@dataclass(frozen=True)
class Listing:
    """Volumes of a source.

    Attributes:
        items: what is read, sorted by path.
        unread: kind to count of files that lie there and are not.
        excluded: volumes left out by a pattern or because of their suffix.
    """

    items: list[Item]
    unread: Mapping[str, int] = field(default_factory=dict)
    excluded: int = 0

    def notes(self) -> list[str]:
        """Sentences on what is not read."""
        notes = []
        if self.unread:
            kinds = sorted(self.unread.items(), key=lambda kind: (-kind[1], kind[0]))
            notes.append("not read: " + ", ".join(f"{kind}: {n}" for kind, n in kinds))
        if self.excluded:
            notes.append(f"left out as asked (exclude, suffix): {counted(self.excluded, 'volume')}")
        return notes


def scan_folder(folder: Path | str, *, labels_from_folders: bool = False) -> list[Item]:
    """Items of every volume below a folder; `list_folder` says what else lies there."""
    return list_folder(folder, labels_from_folders=labels_from_folders).items


def list_folder(
    folder: Path | str, selection: Selection | None = None, *, labels_from_folders: bool = False
) -> Listing:
    """Every volume below a folder, sorted by path; links are refused.

    DICOM is found by its content and grouped by series. Of a BIDS data set the raw data are read,
    not `derivatives`, and participants.tsv gives further columns. Other sub-folders are only
    folders: they become labels if `labels_from_folders` is asked and every file lies exactly one
    level deep; any other depth is then an error, not a guess.

    Raises:
        BadFile: no such folder, or no volumes in it.
        UnsafeFile: a symbolic link below it.
        ConfigError: labels or subjects asked of a folder whose sub-folders do not name them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder")
    bids = (folder / "dataset_description.json").is_file()
    files, slices, unread = _walk(folder, NOT_RAW if bids else ())
    series, without = dicom_items(folder, slices)
    found = [
        Item(str(file), None, subject_of(rel), subject_named=bids_subject(rel) is not None)
        for file in files
        for rel in [file.relative_to(folder)]
    ]
    items = sorted([*found, *series], key=lambda item: Path(item.path))
    unread = +(unread + without)
    if not items:
        what = "; ".join(Listing([], unread).notes())
        known = ", ".join(form.name for form in FORMATS)
        raise BadFile(f"{folder}: no volumes ({known}) in it" + (f"; {what}" if what else ""))
    if labels_from_folders:
        items = [replace(item, label=_label(item, folder)) for item in items]
    if bids:
        items = _participants(folder, items)
        unread[str(kind_of(folder / PARTICIPANTS))] -= (folder / PARTICIPANTS).is_file()
        unread = +unread
    chosen = select(items, selection or Selection(), folder)
    if selection is not None and selection.subjects == "folders":
        if labels_from_folders:
            raise ConfigError(
                f"data.subjects: {folder}: one level of folders cannot name both classes and "
                "subjects; write a manifest.csv with the columns label and subject"
            )
        named = [replace(i, subject=_person(i, folder), subject_named=True) for i in chosen.items]
        chosen = replace(chosen, items=named)
    return replace(chosen, unread=dict(unread))


def list_beside(folder: Path, named: Sequence[Item], by: str) -> Mapping[str, int]:
    """Kind and count of what lies in a folder beside the volumes that a file in it names.

    Args:
        folder: where the naming file lies.
        named: what it names.
        by: its name.
    """
    files, slices, unread = _walk(folder, ())
    known = {os.path.realpath(parted(item.path)[0]) for item in named}
    loose = [path for path in (*files, *slices) if not known & _and_above(path, folder)]
    unread[f"volumes or slices that {by} does not name"] += len(loose)
    unread[str(kind_of(folder / by))] -= 1
    return dict(+unread)


def select(items: Sequence[Item], selection: Selection, root: Path) -> Listing:
    """Those of `items` that a selection means, 4-D files taken apart.

    Raises:
        BadFile: none has the suffix asked for, or all are left out.
    """
    kept = [item for item in items if not _excluded(item.path, selection.exclude, root)]
    if items and not kept:
        raise BadFile(f"{root}: data.exclude {list(selection.exclude)} leaves out all volumes")
    wanted = selection.suffix
    if wanted is not None:
        named = [item for item in kept if suffix_of(item.path) == wanted.removeprefix("_")]
        if not named:
            there = Counter(suffix_of(item.path) for item in kept).most_common(6)
            shown = ", ".join(f"{suffix} ({count})" for suffix, count in there)
            raise BadFile(f"{root}: data.suffix: no file ends in {wanted!r}; there are {shown}")
        kept = named
    excluded = len(items) - len(kept)
    if selection.volume is not None:
        kept = [part for item in kept for part in _volumes(item, selection.volume)]
    return Listing(kept, {}, excluded)


def suffix_of(path: Path | str) -> str:
    """The last part of a file's name, behind "_" or "-": T1w of sub-01_ses-2_T1w.nii.gz."""
    return re.split(r"[_\-]", stem_of(parted(path)[0]))[-1]


def relative(path: str, root: Path) -> str:
    """A volume's path below its source, for patterns."""
    inside = os.path.relpath(path, root)
    return path if inside.startswith("..") else inside


def _excluded(path: str, patterns: Sequence[str], root: Path) -> bool:
    below = relative(path, root)
    names = [below, os.path.basename(below), *map(str, Path(below).parents)]
    return any(fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns for name in names)


def _volumes(item: Item, volume: int | Literal["each"]) -> list[Item]:
    if parted(item.path)[1] is not None:
        return [item]
    try:
        count = read_head(item.path).volumes
    except FastganError:
        return [item]  # whoever reads it says what is wrong
    if count == 1:
        return [item]
    numbers = range(count) if volume == "each" else [volume]
    return [replace(item, path=joined(item.path, number)) for number in numbers]


def _walk(folder: Path, skipped: Sequence[str]) -> tuple[list[Path], list[Path], Counter[str]]:
    """(files of volumes, DICOM files, kind to count of the others) below a folder."""
    files: list[Path] = []
    slices: list[Path] = []
    unread: Counter[str] = Counter()
    for at, folders, names in os.walk(folder, onerror=_raise_unreadable):
        here = Path(at)
        unread["hidden files"] += sum(n.startswith(".") for n in (*names, *folders))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (here / name).is_symlink():
                raise UnsafeFile(f"{here / name}: a symbolic link to a folder; name its target")
        for name in set(folders) & set(skipped) if here == folder else ():
            folders.remove(name)
            unread[f"folder of a BIDS data set ({name})"] += 1
        for name in sorted(names):
            if not name.startswith("."):
                _sort(here / name, files, slices, unread)
    return files, slices, unread


def _and_above(path: Path, folder: Path) -> set[str]:
    """A file and the folders it lies in, down from `folder`: a series is named by one of them."""
    below = path.relative_to(folder)
    return {os.path.realpath(folder / part) for part in (below, *below.parents)}


def _sort(path: Path, files: list[Path], slices: list[Path], unread: Counter[str]) -> None:
    """Put a file where it belongs."""
    name = path.name.lower()
    if name.endswith((".img", ".img.gz")) and _has_header(path):
        return
    if name.endswith(SUFFIXES):
        files.append(path)
    elif name.endswith(PARTNERS) and _has_header(path):
        return
    elif name.endswith(DICOM.suffixes):
        slices.append(path)
    else:
        kind = kind_of(path)
        if kind is None:
            slices.append(path)
        else:
            unread[kind] += 1


def _has_header(path: Path) -> bool:
    """Whether a file of numbers has its header beside it."""
    stem = re.sub(r"\.(raw|zraw|img)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    if path.name.lower().endswith((".img", ".img.gz")):
        try:
            return halves(path)[0] != path
        except BadFile:
            return False
    return any(path.with_name(stem + suffix).exists() for suffix in (".mhd", ".nhdr"))


def _person(item: Item, folder: Path) -> str:
    """The first folder below the source; a series is called by the folder that it lies in."""
    parts = Path(relative(parted(item.path)[0].as_posix(), folder)).parts
    if len(parts) < 2 and not Path(item.path).is_dir():
        raise ConfigError(
            f"data.subjects: folders are to name the subjects, and {item.path} lies in none; move "
            "it into one, or leave it out by data.exclude"
        )
    return parts[0]


def _label(item: Item, folder: Path) -> str:
    parts = Path(relative(item.path, folder)).parts
    if len(parts) != 2:
        raise ConfigError(
            f"data.conditional: {folder}: labels are taken from sub-folders only where every file "
            "lies in exactly one; write a manifest.csv with a label column"
        )
    return parts[0]


def _participants(folder: Path, items: list[Item]) -> list[Item]:
    """Items with the columns that participants.tsv has of their subjects, and the session."""
    path = folder / PARTICIPANTS
    rows: dict[str, int] = {}
    columns: dict[str, list[Cell]] = {}
    if path.is_file():
        table = read_table(path)
        if "participant_id" not in table.columns:
            raise BadFile(f"{path}: no column participant_id, which BIDS asks for")
        key = table.columns.index("participant_id")
        rows = {row[key]: number for number, row in enumerate(table.rows)}
        columns = {
            name: typed([row[i] for row in table.rows], table.comma)
            for i, name in enumerate(table.columns)
            if i != key
        }
    sessions = [re.search(r"(?:^|[/_])(ses-[A-Za-z0-9]+)(?=[/_.])", item.path) for item in items]
    cells = typed([found[1] if found else "" for found in sessions])
    out = []
    for item, session in zip(items, cells, strict=True):
        number = rows.get(item.subject)
        own = {} if number is None else {name: column[number] for name, column in columns.items()}
        if session.value is not None:
            own["session"] = session
        out.append(replace(item, columns=own))
    return out


def _raise_unreadable(error: OSError) -> None:
    raise BadFile(f"{error.filename}: cannot list: {error.strerror}") from error
