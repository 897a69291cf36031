"""Files of every kind, damaged at random: refused, or as if nothing were; never something else."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.studies.faults.children import Child
from bench.studies.faults.stage import Stage, drawn_from, fresh
from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_volume
from fastgan.data.volume import content_digest
from fastgan.errors import FastganError
from fastgan.runs.verify import verify
from fastgan.train.page import write_page
from fastgan.train.run_key import holds, public_key, sign

BATCH = 100
SECONDS = 10
"""A read that takes longer hangs."""


@dataclass(frozen=True)
class Kind:
    """Files of one kind and who reads them.

    Attributes:
        files: that are damaged, one at a time.
        read: what a reader makes of them, as text; raises typed errors.
        noticed: answers of the reader that say aloud that something is wrong.
        weight: trials, relative to the other kinds.
    """

    files: tuple[Path, ...]
    read: Callable[[], str]
    noticed: Callable[[str], bool] = lambda text: False
    weight: int = 1


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Content with one of the ways in which files break, never as it was."""
    changed = content
    while changed == content:
        at = rng.randrange(max(1, len(content)))
        length = min(len(content) - at, rng.choice((1, 4, 16, 64, 512)))
        way = rng.randrange(9)
        if way <= 2 and content:  # a bit
            flipped = content[at] ^ (1 << rng.randrange(8))
            changed = content[:at] + bytes([flipped]) + content[at + 1 :]
        elif way == 3:  # a byte
            changed = content[:at] + rng.randbytes(1) + content[at + 1 :]
        elif way == 4:  # a hole of zeros
            changed = content[:at] + bytes(length) + content[at + length :]
        elif way == 5:  # cut
            changed = content[:at]
        elif way == 6:  # a part gone, or twice
            part = content[at : at + length]
            changed = content[:at] + (part * 2 if rng.random() < 0.5 else b"")
            changed += content[at + length :]
        elif way == 7:  # the tail never written
            changed = content[:at] + bytes(len(content) - at)
        else:  # something else in its place
            changed = content[:at] + rng.randbytes(length) + content[at + length :]
    return changed


class Corruption:
    """Damage to the files of a run folder, a cache, a generated set, and to volumes.

    Args:
        stage: games and data.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.run = stage.train("conditional", stage.place / "sound", 2)
        self.kinds = {**self._of_run(), **self._of_sets(), **self._of_data()}
        self.sound = {name: kind.read() for name, kind in self.kinds.items()}
        self.order = [n for n, kind in self.kinds.items() for _ in range(kind.weight)]

    def _of_run(self) -> dict[str, Kind]:
        def older(text: str) -> bool:
            return text.startswith("older")

        def draw() -> str:
            return drawn_from(self.run)

        def show() -> str:
            write_page(self.run)
            return "shown"

        def signed() -> str:
            key, signature = public_key(self.run), sign(self.run, b"x")
            return str(signature is None or holds(key or "", signature, b"x"))

        newest = self.run / "ckpt-2"
        tensors = tuple(sorted(newest.glob("*.safetensors")))
        kinds = {
            name: Kind((self.run / name,), draw, older, 3) for name in ("config.yaml", "data.json")
        }
        kinds["MANIFEST.json"] = Kind((newest / "MANIFEST.json",), draw, older, 2)
        kinds["state.json"] = Kind((newest / "state.json",), draw, older, 1)
        kinds["*.safetensors"] = Kind(tensors, draw, older, 3)
        told = ("metrics.jsonl", "history.jsonl", "env.json", "command.txt")
        kinds["what the page shows"] = Kind(tuple(self.run / n for n in told), show)
        kinds["key.pem, key.pub"] = Kind((self.run / "key.pem", self.run / "key.pub"), signed)
        return kinds

    def _of_sets(self) -> dict[str, Kind]:
        key = public_key(self.run)

        def of(folder: Path) -> Callable[[], str]:
            def check() -> str:
                found = verify(folder, key)
                return "sound" if found.exit_code == 0 else "refused"

            return check

        def wrong(text: str) -> bool:
            return text == "refused"

        place = self.stage.place
        plain = self.stage.generate(self.run, place / "set", "nifti")
        dicom = self.stage.generate(self.run, place / "dicom", "dicom", 1)
        bids = self.stage.generate(self.run, place / "bids", "bids", 1)
        beside = tuple(plain / n for n in ("passport.json", "passport.sig", "manifest.csv"))
        files = {
            "set: volumes": (plain, tuple(plain.glob("*.nii.gz"))),
            "set: passport, manifest": (plain, beside),
            "set: DICOM": (dicom, tuple(dicom.rglob("*.dcm"))),
            "set: BIDS": (bids, tuple(p for p in bids.rglob("*") if p.is_file())),
        }
        return {name: Kind(found, of(at), wrong, 2) for name, (at, found) in files.items()}

    def _of_data(self) -> dict[str, Kind]:
        place = self.stage.place
        source = fresh(self.stage.scans, place / "cached-scans")
        cache = place / "cached"
        data = DataConfig(source=str(source), shape=(8, 8, 8), modality="ct", holdout=0.0)

        def prepared() -> str:
            dataset = open_dataset(data, "train", cache_dir=cache)
            digest = hashlib.sha256(dataset.fingerprint.encode())
            for i in range(len(dataset)):
                digest.update(dataset.volume(i).tobytes())
            return digest.hexdigest()

        prepared()
        kinds = {
            "cache": Kind(tuple(p for p in cache.iterdir() if p.is_file()), prepared, weight=2)
        }
        for path in _volumes(place / "volumes"):

            def read(path: Path = path) -> str:
                # A format without a checksum is told apart by the digest that every run records.
                array = read_volume(path).array
                return f"{content_digest(path)} {hashlib.sha256(array.tobytes()).hexdigest()}"

            def other(text: str, path: Path = path) -> bool:
                return text.split()[0] != self.sound[f"volume {path.name}"].split()[0]

            kinds[f"volume {path.name}"] = Kind((path,), read, other)
        return kinds

    def batch(self, number: int) -> Counter[str]:
        """`BATCH` damaged files of one kind, in a process of their own."""
        name = random.Random(number).choice(self.order)
        child = Child(lambda: json.dumps(self._trials(name, number)))
        ended = child.outcome(BATCH * SECONDS)
        self._mend(name)
        found: Counter[str] = Counter({f"of {name}": BATCH, "corruptions": BATCH})
        if ended.kind == "done":
            found.update(json.loads(ended.text))
        elif ended.kind == "hang":
            found["hangs"] += 1
        else:
            found["crashes"] += 1
            found[f"NOTE {name} {number}: {ended.text[:400]}"] += 1
        return found

    def _trials(self, name: str, number: int) -> dict[str, int]:
        kind, rng = self.kinds[name], random.Random(number)
        found: Counter[str] = Counter()

        def late(*_: Any) -> None:
            raise TimeoutError("hang")

        signal.signal(signal.SIGALRM, late)
        for _ in range(BATCH):
            path = rng.choice(kind.files)
            content = _kept(path)
            path.write_bytes(damaged(content, rng))
            signal.alarm(SECONDS)
            try:
                text = kind.read()
                if text == self.sound[name]:
                    found["as if sound"] += 1
                elif kind.noticed(text):
                    found["noticed"] += 1
                else:
                    found["silent"] += 1
                    found[f"NOTE silent: {name} {path.name} {number}"[:120]] += 1
            except FastganError:
                found["refused"] += 1
            except TimeoutError:
                found["hangs"] += 1
            except BaseException as error:
                found["untyped"] += 1
                found[f"NOTE {name} {path.name}: {type(error).__name__}: {error}"[:160]] += 1
            finally:
                signal.alarm(0)
            path.write_bytes(content)
            if len(found) > 12:
                break
        return dict(found)

    def _mend(self, name: str) -> None:
        for path in self.kinds[name].files:
            path.write_bytes(_kept(path))


KEPT: dict[Path, bytes] = {}


def _kept(path: Path) -> bytes:
    """What a file holds when it is sound."""
    if path not in KEPT:
        KEPT[path] = path.read_bytes()
    return KEPT[path]


def _volumes(folder: Path) -> list[Path]:
    """One volume in every format that somebody here can write."""
    import nibabel

    folder.mkdir()
    values = np.random.default_rng(0).uniform(-1000.0, 400.0, (6, 7, 8)).astype(np.float32)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 3, 1]))
    for name in ("a.nii", "b.nii.gz"):
        nibabel.save(image, folder / name)
    nibabel.save(nibabel.Nifti2Image(values, np.eye(4)), folder / "c.nii")
    nibabel.save(nibabel.MGHImage(values, np.diag([2.0, 2, 3, 1])), folder / "d.mgz")
    np.save(folder / "e.npy", values)
    np.savez_compressed(folder / "f.npz", volume=values)
    header = "ObjectType = Image\nNDims = 3\nDimSize = 6 7 8\nElementType = MET_FLOAT\n"
    header += "ElementSpacing = 1 1 1\nElementDataFile = LOCAL\n"
    (folder / "g.mha").write_bytes(header.encode() + values.tobytes())
    header = "NRRD0004\ntype: float\ndimension: 3\nsizes: 6 7 8\nencoding: raw\n"
    header += "endian: little\nspace: right-anterior-superior\n"
    header += "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    (folder / "h.nrrd").write_bytes(header.encode() + values.tobytes())
    readable = []
    for path in sorted(folder.iterdir()):
        try:
            read_volume(path)
        except FastganError as error:
            print(f"left out: {error}", flush=True)
            continue
        readable.append(path)
        assert os.access(path, os.R_OK)
    return readable
