"""The list of formats, and which of them reads a path."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastgan.data.formats import analyze, array_volume, dicom, metaimage, mgh, nifti, nrrd
from fastgan.data.formats.stored import Head, Stored
from fastgan.errors import BadFile

__all__ = ["DICOM", "FORMATS", "SUFFIXES", "Format", "format_of", "joined", "parted"]


@dataclass(frozen=True)
class Format:
    """One way to hold a volume.

    Attributes:
        name: in messages.
        suffixes: of file names, lower case.
        read: (path, which of several volumes or series) to the volume.
        head: (path) to what the header says.
        files: (path) to the files its bytes lie in, where there are more than itself.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, int | None], Stored]
    head: Callable[[Path], Head]
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)


DICOM = Format("DICOM", (".dcm", ".dicom", ".ima"), dicom.read_file, dicom.head_of_file)
FORMATS = (
    Format("NIfTI", (".nii", ".nii.gz"), nifti.read, nifti.head),
    Format(
        "header and image pair",
        (".hdr", ".hdr.gz", ".img", ".img.gz"),
        analyze.read,
        analyze.head,
        analyze.halves,
    ),
    Format("MGH", (".mgh", ".mgz", ".mgh.gz"), mgh.read, mgh.head),
    Format("NRRD", (".nrrd", ".nhdr"), nrrd.read, nrrd.head, nrrd.files),
    Format("MetaImage", (".mha", ".mhd"), metaimage.read, metaimage.head, metaimage.files),
    Format("NumPy", (".npy", ".npz"), array_volume.read, array_volume.head),
    DICOM,
)
SUFFIXES = tuple(suffix for form in FORMATS if form is not DICOM for suffix in form.suffixes)
"""Of files that hold a volume each; slices of DICOM are found by their content."""


def format_of(path: Path) -> Format:
    """The format a file's name, or its first bytes, stand for.

    Raises:
        BadFile: none that is read.
    """
    name = path.name.lower()
    for form in FORMATS:
        if name.endswith(form.suffixes):
            return form
    if dicom.is_dicom(path):
        return DICOM
    known = ", ".join(suffix for form in FORMATS for suffix in form.suffixes)
    raise BadFile(f"{path}: name: not one of {known}, and no DICOM; convert it to NIfTI")


def parted(path: Path | str) -> tuple[Path, str | None]:
    """A path of the form "file#volume" or "folder#series" as (path, part); most have no part."""
    text = str(path)
    base, mark, part = text.rpartition("#")
    if mark and part and not os.path.lexists(text) and os.path.lexists(base):
        return Path(base), part
    return Path(text), None


def joined(path: Path | str, part: str | int) -> str:
    """What `parted` takes apart."""
    return f"{path}#{part}"
