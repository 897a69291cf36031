"""Checkpoints that are whole or absent: one folder per step, verified by hash, never overwritten.

`ckpt-<step>/` holds one safetensors file per part of the state, `state.json` with the counters,
and `MANIFEST.json` with size and SHA-256 of each file. It is written as `ckpt-<step>.tmp/`,
flushed file by file, renamed, and read back before an older one is removed. There is no pointer
to the latest: a reader scans from the newest step to the oldest and takes the first that
verifies. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from fastgan.durable import sync_folder, write_error, write_file
from fastgan.errors import (
    BadFile,
    CorruptFile,
    FastganError,
    NumericsError,
    ResourceLimit,
    StateError,
    UnsafeFile,
)
from fastgan.guarded import typed
from fastgan.train import manifest

__all__ = [
    "Checkpoint",
    "Parts",
    "described",
    "newest",
    "prune",
    "read",
    "save",
    "set_aside",
    "steps",
]

STATE = "state.json"
_SUFFIX = ".safetensors"

Parts = Mapping[str, Mapping[str, Tensor]]
"""Name of the part ("generator", "ema.generator", ...) to name of the tensor to tensor."""

_NAME = re.compile(r"ckpt-(\d{1,18})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that verified: every file has the size and hash its manifest names."""

    path: Path
    step: int
    parts: dict[str, dict[str, Tensor]]
    """CPU tensors."""
    counters: dict[str, Any]
    identity: dict[str, Any]
    """What the state belongs to: settings, data, code_version; see `RunFolder.require_same`."""
    hash: str
    """SHA-256 of the manifest, and through it of every byte of the checkpoint."""
    skipped: tuple[str, ...] = ()
    """One line for each newer checkpoint that did not verify."""


@typed("the checkpoint")
def save(
    folder: Path,
    step: int,
    parts: Parts,
    counters: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> Path:
    """Write `folder/ckpt-<step>` and read it back.

    Args:
        folder: the run folder; its lock must be held.
        step: steps the state has behind it.
        parts: tensors on any device, of any layout and dtype that safetensors knows.
        counters: JSON values.
        identity: JSON values: settings and data, as of `made_with.settings_of` and `facts_of`.

    Raises:
        NumericsError: a tensor holds NaN or infinity; nothing is written.
        StateError: `ckpt-<step>` exists.
        ResourceLimit: the disk has less than twice the room, or a write ran out of it.
        BadFile, CorruptFile: a write failed, or did not read back as written.
    """
    final, temporary = folder / f"ckpt-{step}", folder / f"ckpt-{step}.tmp"
    _check_finite(final, parts)
    if os.path.lexists(final):
        raise StateError(f"{final}: exists already, and a checkpoint is never overwritten")
    size = sum(t.numel() * t.element_size() for part in parts.values() for t in part.values())
    try:
        free = shutil.disk_usage(folder).free
        if free < 2 * size:
            raise ResourceLimit(f"{final}: needs {2 * size} bytes of free disk, {free} are left")
        _remove(temporary)
        temporary.mkdir()
        _write(temporary, step, parts, counters, identity)
        os.rename(temporary, final)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(final, error) from error
    read(final)
    return final


def _write(
    folder: Path,
    step: int,
    parts: Parts,
    counters: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    files = {}

    def add(name: str, content: bytes) -> None:
        write_file(folder / name, content)
        files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    for part, tensors in parts.items():
        # A copy, because safetensors refuses shared storage and layouts other than the plain one.
        plain = {
            name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
            for name, tensor in tensors.items()
        }
        add(part + _SUFFIX, safetensors.torch.save(plain))
    add(STATE, manifest.encode(counters))
    manifest.write(folder, step, identity, files)
    sync_folder(folder)


@typed("the checkpoint")
def read(path: Path) -> Checkpoint:
    """Verify one checkpoint folder and load it.

    Raises:
        UnsafeFile: a pickle, link or special file; refused unread.
        StateError: written by a newer format.
        CorruptFile: a file is missing, cut, altered, added, or of another generation.
        BadFile: not a checkpoint folder, or unreadable.
        NumericsError: a tensor holds NaN or infinity.
    """
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        manifest.refuse_unsafe(path)
    match = _NAME.fullmatch(path.name)
    if not match or not path.is_dir():
        raise BadFile(f"{path}: not a checkpoint folder (ckpt-<step>)")
    try:
        content = manifest.read(path)
        files = {
            name: manifest.read_file(path / name, entry) for name, entry in content["files"].items()
        }
    except OSError as error:
        raise BadFile(f"{path}: cannot read: {error.strerror or error}") from error
    if content["step"] != int(match[1]):
        raise CorruptFile(f"{path}: the manifest is of step {content['step']}")
    parts = {
        name.removesuffix(_SUFFIX): _tensors(path / name, data)
        for name, data in files.items()
        if name.endswith(_SUFFIX)
    }
    _check_finite(path, parts)
    return Checkpoint(
        path=path,
        step=content["step"],
        parts=parts,
        counters=_counters(path / STATE, files.get(STATE, b"")),
        identity=_identity(content),
        hash=content["sha256"],
    )


@typed("the checkpoint")
def described(path: Path) -> Checkpoint:
    """What the manifest of a checkpoint says; its files are not read, and it has no parts.

    Raises:
        UnsafeFile, StateError, CorruptFile, BadFile: as `read`, of the manifest.
    """
    content = manifest.read(path)
    return Checkpoint(path, content["step"], {}, {}, _identity(content), content["sha256"])


def _identity(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: content.get(key) for key in ("settings", "data", "code_version")}


@typed("the checkpoints")
def newest(folder: Path) -> Checkpoint:
    """The newest checkpoint in `folder` that verifies; `skipped` says why newer ones do not.

    Raises:
        StateError: there is none, or a newer one is of a newer format.
        UnsafeFile: a newer one holds a pickle, link or special file.
    """
    skipped: list[str] = []
    for step in steps(folder):
        try:
            found = read(folder / f"ckpt-{step}")
        except (UnsafeFile, StateError):
            raise
        except FastganError as error:
            skipped.append(str(error))
        else:
            return dataclasses.replace(found, skipped=tuple(skipped))
    reason = "; ".join(skipped) or "the folder has no ckpt-<step>"
    raise StateError(f"{folder}: no usable checkpoint: {reason}")


def steps(folder: Path) -> list[int]:
    """Steps of all finished checkpoint folders, newest first, verified or not."""
    try:
        names = [_NAME.fullmatch(entry.name) for entry in os.scandir(folder)]
    except OSError as error:
        raise BadFile(f"{folder}: cannot read: {error.strerror or error}") from error
    return sorted((int(match[1]) for match in names if match), reverse=True)


def set_aside(folder: Path, after: int) -> list[Path]:
    """Rename checkpoints newer than step `after`, which did not verify, to `ckpt-<step>.broken`."""
    moved = []
    for step in steps(folder):
        if step > after:
            broken = folder / f"ckpt-{step}.broken"
            try:
                _remove(broken)
                os.rename(folder / f"ckpt-{step}", broken)
            except OSError as error:
                raise write_error(broken, error) from error
            moved.append(broken)
    return moved


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what interrupted saves left behind."""

    def sweep() -> None:
        for leftover in folder.glob("ckpt-*.tmp"):
            _remove(leftover)

    try:
        sweep()
        for step in steps(folder)[keep:]:
            # Renamed first: a removal cut short must not leave half a checkpoint under its name.
            os.rename(folder / f"ckpt-{step}", folder / f"ckpt-{step}.tmp")
        sweep()
    except OSError as error:
        raise write_error(folder, error) from error


def _remove(folder: Path) -> None:
    """Remove a folder that may not be there; an error is an error, for what is left fills disks."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # safetensors raises its own type, KeyError and ValueError
        raise CorruptFile(f"{path}: not a safetensors file: {error}") from error


def _counters(path: Path, content: bytes) -> dict[str, Any]:
    try:
        counters = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: not JSON: {error}") from error
    if not isinstance(counters, dict):
        raise CorruptFile(f"{path}: not a mapping of counters")
    return counters


def _check_finite(where: Path, parts: Parts) -> None:
    bad = [
        f"{part}/{name}"
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if bad:
        raise NumericsError(f"{where}: NaN or infinity in {', '.join(bad[:8])}")
