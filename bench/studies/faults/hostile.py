"""Files and folders made to run code, to write elsewhere or to wait; canaries tell."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import socket
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.studies.faults.children import outcome_of
from bench.studies.faults.stage import Stage, drawn_from, fresh
from fastgan import config as configuration
from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_volume
from fastgan.runs.verify import verify
from fastgan.train import RunFolder, checkpoint
from fastgan.train.page import write_page

RUN = ("config.yaml", "data.json", "env.json", "command.txt", "metrics.jsonl", "history.jsonl")
RUN += ("lock", "run.html", "samples", "key.pem", "key.pub", "ckpt-2", "ckpt-9", "ckpt-9.tmp")
SET = ("manifest.csv", "passport.json", "passport.sig", "volume-00000.nii.gz", "more.nii.gz")
SUFFIXES = ("nii", "nii.gz", "npy", "npz", "mha", "mgz", "nrrd", "hdr", "dcm", "safetensors")

Trial = tuple[str, Callable[[], object]]


class _Runs:
    """Unpickled, it makes a file where the canaries look."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.path}",)


class Hostile:
    """All hostile things, each tried once by everything that would read it.

    Args:
        stage: games and data.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.run = stage.train("gan", stage.place / "honest", 2)
        self.set = stage.generate(self.run, stage.place / "honest-set")
        self.outside = stage.place / "outside"
        self.ran = self.outside / "RAN"
        self.outside.mkdir()
        (self.outside / "thesis.txt").write_text("somebody's thesis\n")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "inner.txt").write_text("more of it\n")
        self.trials = [*self._folders(), *self._pickles(), *self._texts(), *self._paths()]

    def all(self) -> Counter[str]:
        """Every one of them."""
        found: Counter[str] = Counter()
        for name, work in self.trials:
            before = self._canaries()
            ended = outcome_of(work, 30.0)
            found["hostile"] += 1
            found[f"hostile {ended.kind}"] += 1
            found["hangs"] += ended.kind == "hang"
            found["crashes"] += ended.kind == "crash"
            found["untyped"] += ended.kind == "untyped"
            found["executions"] += self.ran.exists()
            found["writes outside"] += self._canaries() != before
            if ended.kind in ("hang", "crash", "untyped") or self._canaries() != before:
                found[f"NOTE {name}: {ended.kind} {ended.text[:300]}"] += 1
        return found

    def _canaries(self) -> str:
        digest = hashlib.sha256()
        for path in sorted(self.outside.rglob("*")):
            facts = path.lstat()
            digest.update(f"{path} {facts.st_mode} {facts.st_size} {facts.st_mtime_ns}".encode())
            if path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def _special(self) -> dict[str, Callable[[Path], object]]:
        thesis, folder = self.outside / "thesis.txt", self.outside / "folder"

        def bound(path: Path) -> None:
            here = os.getcwd()
            os.chdir(path.parent)  # names of sockets are short
            try:
                socket.socket(socket.AF_UNIX).bind(path.name)
            finally:
                os.chdir(here)

        def giant(path: Path) -> None:
            with open(path, "wb") as file:
                file.truncate(1 << 42)

        return {
            "link to a file": lambda path: path.symlink_to(thesis),
            "link to a folder": lambda path: path.symlink_to(folder),
            "link to nothing": lambda path: path.symlink_to(self.outside / "made"),
            "hard link": lambda path: os.link(thesis, path),
            "link to itself": lambda path: path.symlink_to(path),
            "pipe": os.mkfifo,
            "socket": bound,
            "folder": lambda path: path.mkdir(),
            "giant of holes": giant,
        }

    def _folders(self) -> Iterator[Trial]:
        """A run folder, and a set, in which one thing is not what it seems."""
        for name in RUN:
            for what, make in self._special().items():

                def use(name: str = name, make: Callable[[Path], object] = make) -> None:
                    run = self._with(self.run, name, make)
                    self._use_run(run)

                yield f"run {name}: {what}", use
        for name in SET:
            for what, make in self._special().items():

                def check(name: str = name, make: Callable[[Path], object] = make) -> None:
                    made = self._with(self.set, name, make)
                    _first_error(
                        lambda: verify(made),
                        lambda: open_dataset(DataConfig(source=str(made)), "train"),
                    )

                yield f"set {name}: {what}", check

    def _with(self, source: Path, name: str, make: Callable[[Path], object]) -> Path:
        copy = fresh(source, self.stage.place / "hostile")
        path = copy / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)
        return copy

    def _use_run(self, run: Path) -> None:
        _first_error(
            lambda: RunFolder(run).config(),
            lambda: drawn_from(run),
            lambda: self.stage.train("gan", run, 3, resume=run),
            lambda: write_page(run),
            lambda: self.stage.generate(run, self.stage.place / f"of-{os.getpid()}"),
        )

    def _pickles(self) -> Iterator[Trial]:
        """Pickles under the name of everything that is read."""
        bomb = _Runs(self.ran)
        archive, objects, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(bomb, 2))
        np.save(objects, np.array([bomb], object), allow_pickle=True)
        np.savez(packed, volume=np.array([bomb], object))
        contents = {f"pickle {n}": pickle.dumps(bomb, n) for n in range(6)}
        contents |= {"torch zip": archive.getvalue(), "npy of objects": objects.getvalue()}
        contents["npz of objects"] = packed.getvalue()
        for what, content in contents.items():
            for suffix in SUFFIXES:

                def read(content: bytes = content, suffix: str = suffix) -> None:
                    path = self.stage.place / f"hostile-file.{suffix}"
                    path.write_bytes(content)
                    read_volume(path)

                yield f"{what} as .{suffix}", read
            for name in ("ckpt-2/generator.safetensors", "ckpt-2/model.pt", "config.yaml"):

                def use(content: bytes = content, name: str = name) -> None:
                    run = fresh(self.run, self.stage.place / "hostile")
                    (run / name).write_bytes(content)
                    checkpoint.newest(run)
                    self._use_run(run)

                yield f"{what} as {name}", use

    def _texts(self) -> Iterator[Trial]:
        """YAML and JSON that would build objects, grow or never end."""
        command = f"touch {self.ran}"
        texts = [
            f"!!python/object/apply:os.system ['{command}']",
            f"name: !!python/object/apply:os.system ['{command}']",
            f"name: !!python/object/new:os.system ['{command}']",
            f"name: !!python/object/apply:subprocess.Popen [['touch', '{self.ran}']]",
            "name: !!python/name:os.system",
            "name: !!python/module:antigravity",
            "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
            "name: " + "[" * 50_000,
            "name: " + "{a: " * 5_000,
            "seed: " + "9" * 100_000,
            "? [a, b]\n: c",
            "name: \x1b]0;owned\x07",
        ]
        for number, text in enumerate(texts):

            def load(text: str = text) -> None:
                path = self.stage.place / "hostile.yaml"
                path.write_text(text)
                configuration.load(path)

            yield f"yaml {number}", load

    def _paths(self) -> Iterator[Trial]:
        """Names in headers and tables that lead elsewhere."""
        target = self.outside / "thesis.txt"
        for named in (
            str(target),
            "../outside/thesis.txt",
            "..",
            "/dev/zero",
            "/dev/stdin",
            "a\0b",
        ):

            def meta(named: str = named) -> None:
                path = self.stage.place / "hostile.mhd"
                text = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = "
                path.write_text(f"ObjectType = Image\n{text}{named}\n")
                read_volume(path)

            def nrrd(named: str = named) -> None:
                path = self.stage.place / "hostile.nhdr"
                text = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
                path.write_text(f"{text}data file: {named}\n")
                read_volume(path)

            def table(named: str = named) -> None:
                folder = self.stage.place / "hostile-table"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                (folder / "manifest.csv").write_text(f"path\n{named}\n")
                open_dataset(DataConfig(source=str(folder)), "train")

            yield f"mhd naming {named!r}", meta
            yield f"nhdr naming {named!r}", nrrd
            yield f"manifest naming {named!r}", table


def _first_error(*uses: Callable[[], object]) -> None:
    """All uses, whatever the others did; then the first error, an untyped one before others."""
    from fastgan.errors import FastganError

    errors: list[BaseException] = []
    for use in uses:
        try:
            use()
        except BaseException as error:
            errors.append(error)
    errors.sort(key=lambda error: isinstance(error, FastganError))
    if errors:
        raise errors[0]
