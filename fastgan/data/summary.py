"""Who and what a data set consists of: counts by split, class and site, and what is odd there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastgan.data.columns import MISSING
from fastgan.data.formats.table import parted
from fastgan.data.guess import contrast_of
from fastgan.data.manifest import Item
from fastgan.data.splits import split_items
from fastgan.errors import ConfigError
from fastgan.terminal import counted

__all__ = ["Count", "Summary", "folders_are_people", "mixed_contrasts", "summarise"]

FEW = 12  # names shown of a group


@dataclass(frozen=True)
class Count:
    """How many volumes, and of how many subjects."""

    volumes: int
    subjects: int


@dataclass(frozen=True)
class Summary:
    """A data set by what its manifest says.

    Attributes:
        volumes, subjects: of all.
        groups: "split", "class", "site", "scanner" or "modality", to name to count; "" is the name
            of what has none. What no volume has is left out.
        classes: labels where every volume has one and training and hold-out have two or more.
        problems: what training refuses, in sentences.
        notes: what a person should know.
    """

    volumes: int
    subjects: int
    groups: dict[str, dict[str, Count]]
    classes: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """One a group, to print."""
        lines = [f"{counted(self.volumes, 'volume')} of {counted(self.subjects, 'subject')}"]
        for group, names in self.groups.items():
            shown = [
                f"{name or 'none'} {count.volumes} ({count.subjects})"
                for name, count in list(names.items())[:FEW]
            ]
            more = len(names) - FEW
            shown += [f"and {more} more"] if more > 0 else []
            lines.append(f"{group}: {', '.join(shown)}")
        return lines


def summarise(items: Sequence[Item], holdout: float) -> Summary:
    """Count, and look for what makes a manifest useless.

    Args:
        items: of the whole data set.
        holdout: share of subjects held out where no split is given.
    """
    problems: list[str] = []
    notes: list[str] = []
    try:
        filled = split_items(items, holdout)
    except ConfigError as error:
        problems.append(str(error))
        filled = list(items)
    groups = {
        "split": _count(filled, [item.split for item in filled]),
        "class": _count(filled, [item.label for item in filled]),
        "site": _count(filled, [item.site for item in filled]),
        "scanner": _count(filled, [item.scanner for item in filled]),
        "modality": _count(filled, [item.modality for item in filled]),
    }
    groups = {group: names for group, names in groups.items() if set(names) != {""}}
    for item in items:
        if item.subject.lower() in MISSING:
            notes.append(f"subject {item.subject!r} reads like a missing value: all of it is one")
            break
    classes = _classes(filled, groups.get("class", {}), notes)
    notes += _unnamed([item for item in items if not item.subject_named])
    mixed = mixed_contrasts(items)
    notes += [mixed] if mixed else []
    subjects = len({item.subject for item in items})
    if subjects == 1 and len(items) > 1 and all(item.subject_named for item in items):
        notes.append(
            f"all {len(items)} volumes name one subject; if several people were given one name, "
            "--subjects folders takes each folder for a person"
        )
    return Summary(len(items), subjects, groups, classes, tuple(problems), tuple(notes))


def _unnamed(items: Sequence[Item]) -> list[str]:
    """What is taken for the subjects of volumes that name nobody, and what to do about it."""
    if not items:
        return []
    said = f"{counted(len(items), 'volume')} without a named subject"
    people = {item.subject for item in items}
    taken = "each counts as a person of its own"
    if len(people) < len({parted(item.path)[0] for item in items}):
        taken = f"files of one name count as one person, which makes {len(people)}"
    folders = {Path(item.path).parent for item in items}
    advice = "several of one person"
    if 1 < len(folders) < len(items):
        advice = "if each folder is one, say --subjects folders (data.subjects); else these"
    return [f"{said}: {taken}; {advice} need a manifest.csv with a subject column"]


def folders_are_people(items: Sequence[Item]) -> bool:
    """Whether a few names come back in many folders, as where every patient has a T1.nii.

    In the folders of contrasts or classes it is the other way round: many names in few folders.
    """
    unnamed = [item for item in items if not item.subject_named]
    files = {parted(item.path)[0] for item in unnamed}
    folders = {path.parent for path in files}
    names = {path.name for path in files}
    return len(folders) > 1 and len(names) <= len(folders) and len(names) < len(files)


def mixed_contrasts(items: Sequence[Item]) -> str | None:
    """A sentence where names tell several MR contrasts apart, None elsewhere."""
    found: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for item in items:
        contrast = contrast_of(item.path)
        if contrast is not None:
            counts[contrast] += 1
            found.setdefault(item.subject, set()).add(contrast)
    if len(counts) < 2:
        return None
    shown = " and ".join(f"{name} ({count})" for name, count in counts.most_common())
    both = [subject for subject, names in found.items() if len(names) > 1]
    whose = f", for example both of subject {both[0]}" if both else ""
    return (
        f"{shown} are mixed{whose}: one network trains on one contrast; choose it by --suffix, "
        "the last part of the file names, or leave the others out by --exclude"
    )


def _count(items: Sequence[Item], names: Sequence[str | None]) -> dict[str, Count]:
    volumes: Counter[str] = Counter()
    subjects: dict[str, set[str]] = {}
    for item, name in zip(items, names, strict=True):
        volumes[name or ""] += 1
        subjects.setdefault(name or "", set()).add(item.subject)
    order = sorted(volumes, key=lambda name: (name == "", -volumes[name], name))
    return {name: Count(volumes[name], len(subjects[name])) for name in order}


def _classes(items: Sequence[Item], counts: dict[str, Count], notes: list[str]) -> tuple[str, ...]:
    """Labels to condition on, or () with a note why not."""
    if not counts:
        return ()
    missing = [name for name in counts if name and name.lower() in MISSING]
    if missing:
        shown = ", ".join(f"{name!r} ({counts[name].volumes})" for name in missing)
        notes.append(f"labels that read like missing values: {shown}; leave the field empty")
    names = [name for name in counts if name and name not in missing]
    if len(names) < 2:
        notes.append(f"one class alone, {', '.join(names) or 'none'}: nothing to condition on")
        return ()
    if missing or "" in counts:
        count = sum(counts[name].volumes for name in (*missing, "") if name in counts)
        without = f"{counted(count, 'volume')} without a class"
        notes.append(f"{without}: conditional training needs one of each")
        return ()
    for split in ("train", "holdout"):
        there = {item.label for item in items if item.split == split}
        lost = [name for name in names if name not in there]
        if lost and any(item.split == split for item in items):
            notes.append(f"no volume of class {', '.join(lost)} in {split}")
            if split == "train":
                return ()
    return tuple(sorted(names))
