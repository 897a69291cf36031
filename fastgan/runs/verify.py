"""Is this volume ours, and is it whole? Every volume of a folder against its passport."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fastgan.data import read_volume
from fastgan.data.content import content_hash, provenance_of
from fastgan.data.formats.dicom import is_dicom
from fastgan.data.formats.table import SUFFIXES
from fastgan.errors import BadFile, FastganError
from fastgan.guarded import typed
from fastgan.runs.passport import (
    NAME,
    SIGNATURE,
    Described,
    Passport,
    digest_of,
    files_below,
    read_passport,
)
from fastgan.train.run_key import holds

__all__ = ["Checked", "Standing", "Verified", "verify"]

Standing = Literal["intact", "altered", "missing", "foreign", "unsigned"]
"""intact: as signed. altered: listed, but its bytes are others. missing: listed, and not there.
foreign: there, and not listed. unsigned: it agrees with its own header, which nobody signed."""


@dataclass(frozen=True)
class Checked:
    """One volume, or one other file, and where it stands.

    Attributes:
        path: from the folder.
        standing: see `Standing`.
        about: model, seed and class; or what is wrong.
    """

    path: str
    standing: Standing
    about: str


@dataclass(frozen=True)
class Verified:
    """What was found of a folder.

    Attributes:
        checked: volumes first, in their order, then other files that are not as signed.
        signature: what holds for all of them, in a sentence.
        trusted: the signature holds, by the key that was named if one was.
        known: a key was named, so that it is known whose it is.
        passport: of the set; None where there is none.
    """

    checked: tuple[Checked, ...]
    signature: str
    trusted: bool
    known: bool
    passport: Passport | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """0: all as signed; 3: something is not; 4: nothing is wrong, but nobody signed."""
        wrong = {"altered", "missing", "foreign"} & {one.standing for one in self.checked}
        if wrong or self.signature.startswith("WRONG"):
            return 3
        return 0 if self.trusted and self.checked else 4


@typed("verify")
def verify(folder: Path, key: str | None = None) -> Verified:
    """Hold every file of a folder against its passport, or every volume against its own header.

    Args:
        folder: what `generate` or `translate` wrote, from wherever it came.
        key: public key of the run it should be of, 64 hex digits; None: whatever key the set
            names, which shows that it is whole, and not whose it is.

    Raises:
        BadFile: no folder, or nothing to look at.
        UnsafeFile: a link, pipe or device in it, or a passport that leads out of it.
        CorruptFile: a passport that is none.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: no folder; name the one that fastgan generate wrote")
    present = files_below(folder)
    if not os.path.lexists(folder / NAME):
        return _by_headers(folder, present)
    passport, content, signature = read_passport(folder)
    sentence, trusted = _signed(passport, content, signature, key)
    digests = {name: digest_of(folder / name) for name in present if name in passport.files}
    checked = [_standing(one, passport, digests, folder) for one in passport.volumes]
    of_volumes = {name for one in passport.volumes for name in one.files}
    for name in sorted({*passport.files} - of_volumes):
        if name not in digests:
            checked.append(Checked(name, "missing", "listed in the passport"))
        elif digests[name] != passport.files[name]:
            checked.append(Checked(name, "altered", "not the bytes that were listed"))
    contents = {one.content: one for one in passport.volumes if one.content}
    foreign = [name for name in present if name not in passport.files]
    checked += [Checked(name, "foreign", _whose(folder / name, contents)) for name in foreign]
    return Verified(tuple(checked), sentence, trusted, key is not None, passport)


def _signed(
    passport: Passport, content: bytes, signature: bytes | None, key: str | None
) -> tuple[str, bool]:
    if signature is None:
        return f"not signed: there is no {SIGNATURE}", False
    if key is not None and passport.key != key:
        named = passport.key[:16] if passport.key else "none"
        return f"WRONG KEY: the set names {named}, the run has {key[:16]}", False
    if passport.key is None or not holds(passport.key, signature, content):
        return f"WRONG SIGNATURE: {NAME} is not what was signed; believe nothing in it", False
    if key is None:
        return (
            f"signed by the key {passport.key[:16]} that the set itself names; whose it is shows "
            "only --run RUN or --key FILE"
        ), True
    return f"signed by the run's key {key[:16]}", True


def _standing(one: Described, passport: Passport, digests: dict[str, str], folder: Path) -> Checked:
    gone = [name for name in one.files if name not in digests]
    if gone or not one.files:
        more = "" if len(gone) == len(one.files) else f": {len(gone)} of {len(one.files)} files"
        return Checked(one.path, "missing", f"listed in the passport{more}")
    changed = [name for name in one.files if digests[name] != passport.files.get(name)]
    if not changed:
        seed = "" if one.seed is None else f", seed {one.seed}, index {one.index}"
        label = f", class {one.label}" if one.label else ""
        model = f"checkpoint {passport.checkpoint[:12]}, step {passport.step}"
        return Checked(one.path, "intact", f"{model}{seed}{label}")
    return Checked(one.path, "altered", _difference(folder / one.path, one))


def _difference(path: Path, one: Described) -> str:
    try:
        volume = read_volume(path)
    except FastganError as error:
        return f"cannot be read any more: {error}"
    if content_hash(volume.array, volume.affine) == one.content:
        return "voxels and grid are as they were, the rest of the file is not"
    return "voxels or grid are others"


def _whose(path: Path, contents: dict[str, Described]) -> str:
    """What is known of a file that no passport lists."""
    if not _is_volume(path):
        return "not listed in the passport"
    try:
        volume = read_volume(path)
    except FastganError:
        return "not listed in the passport, and not to be read alone"
    same = contents.get(content_hash(volume.array, volume.affine))
    if same is not None:
        return f"not listed in the passport; it shows what {same.path} does"
    claims = " although its header says fastgan" if provenance_of(volume.source.extensions) else ""
    return f"not listed in the passport{claims}"


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES) or is_dicom(path)


def _by_headers(folder: Path, present: list[str]) -> Verified:
    """Without a passport: what each volume's own header says of it."""
    checked = [_by_header(folder, name) for name in present if name.lower().endswith(SUFFIXES)]
    if not checked:
        raise BadFile(f"{folder}: neither a {NAME} nor volumes in it")
    return Verified(tuple(checked), f"not signed: there is no {NAME}", False, False)


def _by_header(folder: Path, name: str) -> Checked:
    try:
        volume = read_volume(folder / name)
    except FastganError as error:
        return Checked(name, "altered", f"cannot be read: {error}")
    said = provenance_of(volume.source.extensions)
    if not isinstance(content := said.get("content"), str):
        return Checked(name, "foreign", "its header names no generator")
    if content != content_hash(volume.array, volume.affine):
        return Checked(name, "altered", "voxels or grid are not those that its header names")
    parts = [f"{key} {str(said[key])[:40]}" for key in ("step", "seed", "index") if key in said]
    label = f", class {str(said['label'])[:40]}" if said.get("label") else ""
    model = f"checkpoint {str(said.get('checkpoint'))[:12]}"
    about = f"it says of itself: {', '.join([model, *parts])}{label}"
    return Checked(name, "unsigned", about)
