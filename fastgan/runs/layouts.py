"""How a set of generated volumes lies on the disk: NIfTI files, a BIDS derivative, DICOM series."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastgan
from fastgan.data import save_volume
from fastgan.data.dicom_writer import MODALITIES, save_series
from fastgan.durable import put_file
from fastgan.errors import ConfigError
from fastgan.guarded import system_error

__all__ = ["LAYOUTS", "Drawn", "Layout"]

DICOM_LIMIT = 64
"""Characters of a patient's identifier."""


@dataclass(frozen=True)
class Drawn:
    """One volume that was drawn, and what is known of it.

    Attributes:
        array: [C, D, H, W] in physical units.
        affine: [4, 4] voxel index to mm.
        modality: ct, mr, map or mask.
        index, label: of its draw; "" without a class.
        subject: a name that stands for no person.
        description: of its header.
        provenance: of its header extension.
        suffix: the last part of a file's name in BIDS, such as T1w.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str
    index: int
    label: str
    subject: str
    description: str
    provenance: dict[str, Any]
    suffix: str | None = None


class Layout(NamedTuple):
    """One way to write a set.

    Attributes:
        refuse: raises ConfigError where volumes of a modality and number of channels cannot be.
        write: one volume below a folder; returns its path from there.
        finish: what belongs to the whole set.
    """

    refuse: Callable[[str, int], None]
    write: Callable[[Path, Drawn], str]
    finish: Callable[[Path, Sequence[Drawn]], None]


def _any(modality: str, channels: int) -> None:
    """NIfTI holds everything."""


def _nothing(out: Path, drawn: Sequence[Drawn]) -> None:
    """Beside its volumes the set has a manifest and a passport alone."""


def _nifti(out: Path, one: Drawn) -> str:
    name = f"volume-{one.index:05d}.nii.gz"
    save_volume(
        out / name,
        one.array,
        one.affine,
        description=one.description,
        provenance=one.provenance,
    )
    return name


def _dicom_fits(modality: str, channels: int) -> None:
    if modality not in MODALITIES or channels != 1:
        raise ConfigError(
            f"--format dicom: DICOM has images of ct and mr, none of a {modality} of {channels} "
            "channels; use nifti or bids"
        )


def _dicom(out: Path, one: Drawn) -> str:
    name = f"volume-{one.index:05d}"
    save_series(
        out / name,
        one.array[0],
        one.affine,
        modality=one.modality,
        subject=one.subject[:DICOM_LIMIT],
        description=one.description,
    )
    return name


SUFFIX = {"ct": "ct", "mr": "MRI", "map": "map", "mask": "mask"}
"""Of a file's name where the run's own data have none; BIDS itself names contrasts of MR alone."""
IGNORED = "manifest.csv\npassport.json\npassport.sig\n"


def _bids_fits(modality: str, channels: int) -> None:
    if channels != 1:
        raise ConfigError("--format bids: volumes of one channel are meant; use nifti")


def _bids(out: Path, one: Drawn) -> str:
    kind = "ct" if one.modality == "ct" else "anat"
    subject = bids_label(one)
    suffix = one.suffix or SUFFIX[one.modality]
    stem = f"{subject}/{kind}/{subject}_desc-synthetic_{suffix}"
    folder = out / subject / kind
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise system_error(folder, "make the folder", error) from error
    name = f"{stem}.nii.gz"
    save_volume(
        out / name,
        one.array,
        one.affine,
        description=one.description,
        provenance=one.provenance,
    )
    about = {"Description": "made by a generative network; shows no person", "SyntheticData": True}
    put_file(out / f"{stem}.json", [_json(about | {"Provenance": one.provenance})])
    return name


def bids_label(one: Drawn) -> str:
    """The "sub-..." of a volume; BIDS has letters and digits alone."""
    return "sub-" + re.sub(r"[^A-Za-z0-9]", "", one.subject)


def _bids_set(out: Path, drawn: Sequence[Drawn]) -> None:
    described = {
        "Name": "synthetic volumes of fastgan",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "fastgan", "Version": fastgan.__version__}],
        "SyntheticData": True,
    }
    people = [f"{bids_label(one)}\t{one.label or 'n/a'}" for one in drawn]
    put_file(out / "dataset_description.json", [_json(described)])
    table = "\n".join(["participant_id\tlabel", *people]) + "\n"
    put_file(out / "participants.tsv", [table.encode()])
    columns = {"label": {"Description": "class that the volume was generated as"}}
    put_file(out / "participants.json", [_json(columns)])
    text = "Volumes made by a generative network. They show no person.\n"
    put_file(out / "README", [text.encode()])
    put_file(out / ".bidsignore", [IGNORED.encode()])


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"


LAYOUTS = {
    "nifti": Layout(_any, _nifti, _nothing),
    "bids": Layout(_bids_fits, _bids, _bids_set),
    "dicom": Layout(_dicom_fits, _dicom, _nothing),
}
"""Name -> how to write."""
