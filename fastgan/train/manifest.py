"""The manifest of a checkpoint folder: which bytes belong to it, and reading only those.

The manifest carries its own hash, and is compared with its canonical encoding, so that a change
of any single byte of the folder is found.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastgan
from fastgan.durable import write_file
from fastgan.errors import CorruptFile, StateError, UnsafeFile
from fastgan.guarded import TEXT, open_plain, read_plain, system_error

__all__ = ["FORMAT", "NAME", "encode", "read", "read_file", "refuse_unsafe", "write"]

FORMAT = 2
NAME = "MANIFEST.json"

Files = Mapping[str, Mapping[str, Any]]

_PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar"}
# Zip (torch.save), pickle protocols 2 to 5 (torch.save before 1.6), joblib's gzip.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")
# Of safetensors: the upper half of the header's length in 8 bytes, then its JSON.
_HEADER_BEGINS = b"\0\0\0\0{"


def encode(content: Mapping[str, Any]) -> bytes:
    """The one way JSON is written in a checkpoint."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def write(folder: Path, step: int, identity: Mapping[str, Any], files: Files) -> None:
    """Write the manifest of `files`: name to {"size": bytes, "sha256": hex}."""
    manifest = {
        "format": FORMAT,
        "step": step,
        "code_version": fastgan.__version__,
        **identity,
        "files": files,
    }
    write_file(folder / NAME, encode(manifest | {"sha256": _digest(manifest)}))


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that holds exactly the plain files it names.

    Raises:
        UnsafeFile: a pickle, link or special file in the folder.
        StateError: another format.
        CorruptFile: the manifest is missing or altered, or names other files than there are.
        OSError: the folder cannot be read.
    """
    present = {entry.name for entry in os.scandir(folder)}
    for name in sorted(present):
        refuse_unsafe(folder / name)
    path = folder / NAME
    if NAME not in present:
        raise CorruptFile(f"{path}: missing")
    content = read_plain(path, TEXT)
    try:
        manifest: dict[str, Any] = json.loads(content)
        claimed = {k: v for k, v in manifest.items() if k != "sha256"}
        # The hash covers the values; the encoding is compared so that it covers every byte.
        intact = manifest["sha256"] == _digest(claimed) and content == encode(manifest)
        version = manifest["format"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CorruptFile(f"{path}: not a manifest: {error!r}") from error
    if not intact:
        raise CorruptFile(f"{path}: altered after it was written")
    if version != FORMAT:
        raise StateError(
            f"{path}: format {version} of fastgan {manifest.get('code_version')}; fastgan "
            f"{fastgan.__version__} reads format {FORMAT}, so use the version that wrote it"
        )
    if not _well_formed(manifest):
        raise CorruptFile(f"{path}: step or files are not as format {FORMAT} has them")
    expected = {*manifest["files"], NAME}
    if present != expected:
        raise CorruptFile(
            f"{folder}: missing {sorted(expected - present)}, "
            f"unknown to the manifest {sorted(present - expected)}"
        )
    return manifest


def read_file(path: Path, entry: Mapping[str, Any]) -> bytes:
    """The content of a file with the size and hash its manifest entry names.

    Raises:
        CorruptFile: it has others.
    """
    # The size first, so that an altered file cannot make us read without bound.
    if (size := path.lstat().st_size) != entry["size"]:
        raise CorruptFile(f"{path}: {size} bytes, the manifest says {entry['size']}")
    content = read_plain(path, size)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CorruptFile(f"{path}: content differs from the manifest's hash")
    return content


def refuse_unsafe(path: Path) -> None:
    """Refuse pickles by name or first bytes, and anything that is not a plain file.

    Raises:
        UnsafeFile: naming the way to convert a pickle.
        BadFile: the file cannot be looked at.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise UnsafeFile(f"{path}: a link, folder, pipe or device where a plain file belongs")
        with open_plain(path) as file:
            start = b"" if path.suffix in _PICKLE_SUFFIXES else file.read(9)
    except OSError as error:
        raise system_error(path, "read", error) from error
    # The length of a safetensors header may spell a pickle's first bytes: 640 is 80 02.
    pickled = start.startswith(_PICKLE_STARTS) and start[4:] != _HEADER_BEGINS
    if path.suffix in _PICKLE_SUFFIXES or pickled:
        raise UnsafeFile(
            f"{path}: a pickle can run code and is not read; if you trust its source, convert it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'new.safetensors')"
        )


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(encode(manifest)).hexdigest()


def _well_formed(manifest: Mapping[str, Any]) -> bool:
    files = manifest.get("files")
    return (
        type(manifest.get("step")) is int
        and isinstance(files, dict)
        and all(os.path.basename(name) == name for name in files)
        and all(
            isinstance(entry, dict)
            and type(entry.get("size")) is int
            and isinstance(entry.get("sha256"), str)
            for entry in files.values()
        )
    )
