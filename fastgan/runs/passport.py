"""The passport of a set of generated volumes: what each is, by hash, signed by the run's key.

`passport.json` names every file of the set with its SHA-256, and of every volume the hash of its
picture, its origin and its class; `passport.sig` is the signature of exactly its bytes. Whoever
changes, adds or takes away a volume is found out by `fastgan.runs.verify`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import fastgan
from fastgan.data import read_volume
from fastgan.data.content import content_hash
from fastgan.durable import put_file
from fastgan.errors import BadFile, CorruptFile, UnsafeFile
from fastgan.guarded import open_plain, read_plain, system_error
from fastgan.train.run_folder import RunFolder
from fastgan.train.run_key import public_key, sign

__all__ = [
    "NAME",
    "SIGNATURE",
    "SYNTHETIC",
    "Described",
    "Machine",
    "Passport",
    "content_of",
    "digest_of",
    "files_below",
    "here",
    "read_passport",
    "write_passport",
]

NAME, SIGNATURE = "passport.json", "passport.sig"
LONGEST = 256 << 20
"""Bytes of a passport: a million slices."""
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained algorithm, which other programs look for."""

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Machine(_Strict):
    """What has to be equal for a generator to compute the same bits.

    Attributes:
        fastgan, torch, numpy: versions.
        device: "cpu", or the name of the GPU.
        processor: architecture, and the instructions torch uses.
        threads: of the CPU.
        implementation: `FASTGAN_IMPL`, and `FASTGAN_ISA` where it is set.
    """

    fastgan: str
    torch: str
    numpy: str
    device: str
    processor: str
    threads: Annotated[int, Field(ge=1, le=1024)]
    implementation: str


class Described(_Strict):
    """One volume of a set.

    Attributes:
        path: as `read_volume` takes it, from the set's folder.
        content: `fastgan.data.content.content_hash`, or None of several channels.
        seed, index: of its draw; None of a translation.
        label: its class; "" without one.
        files: the files it is made of.
    """

    path: Name
    content: Hash | None
    seed: Annotated[int, Field(ge=0)] | None
    index: Annotated[int, Field(ge=0)] | None
    label: str
    files: list[Name]


class Passport(_Strict):
    """What is known of a set.

    Attributes:
        format: of the passport.
        synthetic: true, always.
        digitalSourceType: IPTC's word for the same.
        made: "generate" or "translate".
        layout: nifti, bids or dicom.
        checkpoint: the hash of the checkpoint whose averaged weights were used, and its step.
        step: of it.
        machine: where.
        key: the run's public key, hex; None where the run had none.
        volumes: all of them.
        files: SHA-256 of every file of the set, this and its signature aside.
    """

    format: Literal["fastgan-passport/1"]
    synthetic: Literal[True]
    digitalSourceType: str
    made: Literal["generate", "translate"]
    layout: str
    checkpoint: Hash
    step: Annotated[int, Field(ge=0)]
    machine: Machine
    key: Hash | None
    volumes: list[Described]
    files: dict[Name, Hash]


def write_passport(
    out: Path,
    folder: RunFolder,
    *,
    made: Literal["generate", "translate"],
    layout: str,
    checkpoint: str,
    step: int,
    device: torch.device,
    volumes: Sequence[Mapping[str, Any]],
    further: Mapping[str, bytes],
) -> bool:
    """Read the set back from the disk, describe it, and sign that.

    Args:
        out: the set, complete but for `further`.
        folder: the run, whose key signs.
        made: "generate" or "translate".
        layout: how the set lies on the disk.
        checkpoint: hash of the one that was used.
        step: of it.
        device: that computed.
        volumes: path, seed, index and label of each.
        further: name and content of files that are written after the passport.

    Returns:
        Whether it is signed: the run's folder holds its private key.

    Raises:
        UnsafeFile, CorruptFile, StateError: a key that cannot be used; nothing is written.
        BadFile and its kinds: a volume does not read back, or the passport cannot be written.
    """
    files = {name: digest_of(out / name) for name in files_below(out)}
    files |= {name: hashlib.sha256(content).hexdigest() for name, content in further.items()}
    inside: dict[str, list[str]] = {}
    for name in files:
        inside.setdefault(name.rpartition("/")[0], []).append(name)
    described = [
        Described(
            path=one["path"],
            content=content_of(out / one["path"]),
            seed=one.get("seed"),
            index=one.get("index"),
            label=one["label"],
            files=[one["path"]] if one["path"] in files else inside.get(one["path"], []),
        )
        for one in volumes
    ]
    passport = Passport(
        format="fastgan-passport/1",
        synthetic=True,
        digitalSourceType=SYNTHETIC,
        made=made,
        layout=layout,
        checkpoint=checkpoint,
        step=step,
        machine=here(device),
        key=public_key(folder.path),
        volumes=described,
        files=files,
    )
    content = json.dumps(passport.model_dump(), indent=1, sort_keys=True).encode() + b"\n"
    signature = sign(folder.path, content)
    put_file(out / NAME, [content])
    if signature is not None:
        put_file(out / SIGNATURE, [signature])
    return signature is not None


def read_passport(folder: Path) -> tuple[Passport, bytes, bytes | None]:
    """(the passport of a set, its bytes, their signature or None).

    Nothing it says is believed yet.

    Raises:
        CorruptFile: not a passport; names the key.
        UnsafeFile: a link, pipe or device, or a path that leads out of the folder.
        BadFile: there is none, or it cannot be read.
    """
    content = read_plain(folder / NAME, LONGEST)
    try:
        passport = Passport.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CorruptFile(f"{folder / NAME}: {key}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{folder / NAME}: not JSON: {error}") from None
    for name in (*passport.files, *(one.path for one in passport.volumes)):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UnsafeFile(f"{folder / NAME}: {name!r} leads out of the folder")
    signature = None
    if os.path.lexists(folder / SIGNATURE):
        signature = read_plain(folder / SIGNATURE, 4096)
    return passport, content, signature


def here(device: torch.device) -> Machine:
    """The facts of this machine and process that a generator's bits depend on."""
    gpu = device.type == "cuda"
    chosen = [os.environ.get(name, "") for name in ("FASTGAN_IMPL", "FASTGAN_ISA")]
    return Machine(
        fastgan=fastgan.__version__,
        torch=torch.__version__,
        numpy=np.__version__,
        device=torch.cuda.get_device_name(device) if gpu else "cpu",
        processor=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        implementation=" ".join(filter(None, chosen)) or "auto",
    )


def files_below(folder: Path) -> list[str]:
    """Every file of a set by its path from the set's folder, passport and signature aside.

    Raises:
        UnsafeFile: a link, pipe or device among them.
        BadFile: a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise system_error(error.filename or folder, "read", error) from error

    found = []
    for at, inside, names in os.walk(folder, onerror=refuse):
        for name in (*inside, *names):
            mode = os.lstat(os.path.join(at, name)).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UnsafeFile(
                    f"{os.path.join(at, name)}: a link, pipe or device in a set of plain files; "
                    "remove it"
                )
        found += [(Path(at) / name).relative_to(folder).as_posix() for name in names]
    return sorted(set(found) - {NAME, SIGNATURE})


def digest_of(path: Path) -> str:
    """SHA-256, hex, of the bytes of a file.

    Raises:
        UnsafeFile, BadFile: no regular file, or one that cannot be read.
    """
    digest = hashlib.sha256()
    with open_plain(path) as file:
        try:
            while block := file.read(1 << 20):
                digest.update(block)
        except OSError as error:
            raise system_error(path, "read", error) from error
    return digest.hexdigest()


def content_of(path: Path) -> str | None:
    """The content hash of a volume as it lies on the disk; None of several channels."""
    try:
        volume = read_volume(path)
    except CorruptFile:
        raise
    except BadFile as error:
        if "a vector per voxel" in str(error):
            return None
        raise
    return content_hash(volume.array, volume.affine)
