"""DICOM files found below a folder as items: one a series, one a file of many frames."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fastgan.data.formats.dicom_header import Slice, read_slice
from fastgan.data.formats.dicom_series import group
from fastgan.data.formats.table import joined
from fastgan.data.manifest import Item, bids_subject, subject_of
from fastgan.errors import BadFile, FastganError

__all__ = ["dicom_items"]


def dicom_items(folder: Path, files: Sequence[Path]) -> tuple[list[Item], Counter[str]]:
    """Series among DICOM files, and by kind and count those without an image.

    A series is named by the folder that holds it alone, else as "folder#SeriesInstanceUID". A
    damaged file is an item of its own, so that reading it says what is wrong. The subject is a
    hash of the patient's identifier.

    Args:
        folder: below which they lie.
        files: by name or content DICOM.
    """
    slices: list[Slice] = []
    items: list[Item] = []
    unread: Counter[str] = Counter()
    for path in files:
        try:
            one = read_slice(path)
        except FastganError as error:
            if type(error) is BadFile and "pip install" in str(error):
                return [], Counter({"DICOM files (pip install 'fastgan[dicom]')": len(files)})
            items.append(Item(str(path), None, _subject(path, folder), subject_named=False))
            continue
        if one.kind:
            unread[f"DICOM files without an image ({one.kind})"] += 1
        elif len(one.frames) > 1:
            items.append(_item(str(path), one, folder))
        else:
            slices.append(one)
    series = group(slices)
    home = {uid: _common(own) for uid, own in series.items()}
    for uid, own in series.items():
        at = home[uid]
        alone = all(other == uid or at not in (h, *h.parents) for other, h in home.items())
        items.append(_item(str(at) if alone else joined(at, uid), own[0], folder))
    return items, unread


def _common(slices: Sequence[Slice]) -> Path:
    return Path(os.path.commonpath([one.path.parent for one in slices]))


def _item(path: str, one: Slice, folder: Path) -> Item:
    named = bool(one.subject) or bids_subject(one.path) is not None
    return Item(
        path,
        None,
        f"dicom-{one.subject}" if one.subject else _subject(one.path, folder),
        scanner=one.scanner or None,
        modality=one.modality,
        subject_named=named,
    )


def _subject(path: Path, folder: Path) -> str:
    below = path.relative_to(folder)
    return bids_subject(below) or subject_of(below.parent if below.parent.name else below)
