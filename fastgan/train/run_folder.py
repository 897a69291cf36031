"""The folder of one run: its configuration, surroundings, metrics, pictures and checkpoints.

`runs/00003-name-seed0/` holds config.yaml, env.json, command.txt, data.json (what is needed to
bring generated volumes back to physical units), metrics.jsonl, history.jsonl (when it began and how
it ended), key.pub and key.pem (the run's own key; the latter is not for others), samples/,
ckpt-<step>/ and run.html, which shows all of them.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastgan import config as configuration
from fastgan.config import Config
from fastgan.durable import replace_file, sweep_partials, sync_folder, write_error
from fastgan.errors import BadFile, CorruptFile, StateError
from fastgan.guarded import append_to, read_plain, refuse_special, typed
from fastgan.train import checkpoint, lock
from fastgan.train.checkpoint import Checkpoint, steps
from fastgan.train.environment import environment
from fastgan.train.made_with import (
    FINGERPRINT,
    FREE_KEYS,
    changed_keys,
    config_of,
    data_of,
    differences,
    facts_of,
    recorded,
    refuse_other,
    settings_of,
)
from fastgan.train.run_key import make_key

__all__ = ["RunFolder", "require_place"]

METRICS = 1 << 30
"""Bytes of a metrics.jsonl: ten million rows."""
SHOWN = 5
"""Runs named where the folder of runs was given in place of one."""

_NUMBER = re.compile(r"(\d{5,})-")


class RunFolder:
    """An existing run folder, of this process or of somebody else.

    Raises:
        BadFile: `path` is not a run folder.
        UnsafeFile: it holds a link, pipe or device.
    """

    @typed("the run folder")
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._made_with: Mapping[str, Any] | None = None
        if not os.path.lexists(self.path / "config.yaml"):
            raise BadFile(f"{self.path}: not a run folder (it has no config.yaml){self._inside()}")
        refuse_special(self.path)

    @classmethod
    @typed("the run folder")
    def create(
        cls,
        out: Path | str,
        config: Config,
        data: Mapping[str, Any],
        command: Sequence[str] = (),
    ) -> RunFolder:
        """Make the next numbered folder under `out`.

        Args:
            out: made if it is not there.
            config: written as config.yaml; its name and seed name the folder.
            data: JSON values, written as data.json.
            command: the command line, for command.txt.

        Raises:
            BadFile, ResourceLimit: the file system refuses.
        """
        out = Path(out)
        require_place(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            path = _make_numbered(out, f"{config.name}-seed{config.seed}")
            (path / "samples").mkdir()
        except OSError as error:
            raise write_error(out, error) from error
        replace_file(path / "data.json", _json(_with_sources(data, config, path)))
        replace_file(path / "env.json", _json(environment()))
        replace_file(path / "command.txt", shlex.join(command).encode() + b"\n")
        replace_file(path / "metrics.jsonl", b"")
        make_key(path)
        # Last, because it is what makes the folder a run folder.
        replace_file(path / "config.yaml", configuration.dump(config).encode())
        sync_folder(out)
        return cls(path)

    def _inside(self) -> str:
        """The runs in a folder of runs, for whoever named that."""
        found = sorted(path.parent for path in self.path.glob("*/config.yaml"))
        shown = ", ".join(str(path) for path in found[-SHOWN:])
        more = f"the last {SHOWN} of {len(found)} are " if len(found) > SHOWN else ""
        return f"; it holds runs, name one: {more}{shown}" if found else ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer; StateError if another process is."""
        with lock.hold(self.path):
            sweep_partials(self.path)
            yield

    @typed("config.yaml")
    def config(self) -> Config:
        """The configuration the run was last started or resumed with.

        A data source that is not where it was is looked for where it lay as seen from here.
        """
        config = configuration.load(self.path / "config.yaml", follow=False)
        if self._made_with is not None:
            config = config_of(self._made_with["settings"], config, self.path)
        found = {
            key: places[-1]
            for key, places in self._places(config).items()
            if os.path.exists(places[-1]) and not os.path.exists(places[0])
        }
        return config.model_copy(update={"data": config.data.model_copy(update=found)})

    def require_sources(self, config: Config) -> None:
        """Raise BadFile unless the run's data, where `config` reads them, are there.

        The message names every place that was looked at.
        """
        recorded = configuration.load(self.path / "config.yaml", follow=False)
        for key, places in self._places(recorded).items():
            if getattr(config.data, key) in places and not any(map(os.path.exists, places)):
                flag = key.replace("_", "-")
                raise BadFile(
                    f"{self.path}: data.{key} is neither at {' nor at '.join(places)}; put it "
                    f"back, or name it with --{flag} PATH --allow-change data.{key}"
                )

    def _places(self, config: Config) -> dict[str, list[str]]:
        """Where each source of files may be: as recorded, and as it lay from the run folder."""
        relative = self.data().get("sources", {}) if (self.path / "data.json").is_file() else {}
        if not all(isinstance(one, str) for one in (*relative, *relative.values())):
            raise CorruptFile(f"{self.path / 'data.json'}: sources: paths by key are meant")
        return {
            key: [*dict.fromkeys((source, os.path.abspath(self.path / relative.get(key, source))))]
            for key, source in config.sources.items()
        }

    @typed("data.json")
    def data(self) -> dict[str, Any]:
        """Content of data.json.

        Raises:
            BadFile, CorruptFile: it is missing or not a JSON mapping.
        """
        path = self.path / "data.json"
        try:
            content = json.loads(read_plain(path))
        except BadFile:
            raise
        except (ValueError, RecursionError) as error:
            raise CorruptFile(f"{path}: not JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("sources", {}), dict):
            raise CorruptFile(f"{path}: not a mapping")
        if self._made_with is not None:
            # Where the data lie is no matter of the checkpoint.
            sources = {"sources": content["sources"]} if "sources" in content else {}
            return data_of(self._made_with["data"], path) | sources
        return content

    def as_of(self, found: Checkpoint) -> RunFolder:
        """This folder with the configuration and data that a checkpoint was made with.

        They are those of config.yaml and data.json but where a later resumption changed them on
        purpose; the files must then be what a newer checkpoint was made with.

        Raises:
            StateError, CorruptFile: as `require_same`: a file is what no checkpoint was made with.
        """
        try:
            self.require_same(found)
        except StateError:
            if not any(self._is_of(step) for step in steps(self.path) if step > found.step):
                raise
            then = RunFolder(self.path)
            then._made_with = {part: recorded(found, part) for part in ("settings", "data")}
            return then
        return self

    def _is_of(self, step: int) -> bool:
        """Whether both files are what the checkpoint of a step was made with."""
        try:
            path = self.path / f"ckpt-{step}"
            self.require_same(checkpoint.described(path))
        except (StateError, BadFile):
            return False
        return True

    def require_same(self, found: Checkpoint) -> None:
        """Refuse config.yaml and data.json unless they are what a checkpoint was made with.

        Raises:
            StateError: a key differs (the keys that a resumed run may change, and where the data
                lie, aside); names each with both values.
            CorruptFile: the checkpoint does not say what it was made with.
        """
        refuse_other(self.path / "config.yaml", "settings", settings_of(self.config()), found)
        self.require_same_data(found)

    def require_same_data(self, found: Checkpoint) -> None:
        """`require_same` of data.json alone."""
        refuse_other(self.path / "data.json", "data", facts_of(self.data()), found)

    def unbegun(self) -> bool:
        """Whether it has neither checkpoint nor metrics: it was killed before its first step."""
        path = self.path / "metrics.jsonl"
        empty = not os.path.lexists(path) or not read_plain(path, METRICS)
        return empty and not steps(self.path)

    def refuse_changes(
        self,
        config: Config,
        data: Mapping[str, Any],
        allow: Sequence[str],
        found: Checkpoint | None = None,
    ) -> dict[str, tuple[Any, Any]]:
        """The keys in which a resumed run would differ, each with both values.

        Args:
            config: of the resumed run.
            data: its record of the data.
            allow: dotted keys (`data.fingerprint` for the files' content) that may differ.
            found: the checkpoint it goes on from, whose settings count beside config.yaml.

        Raises:
            StateError: other keys differ; names each with both values.
        """
        before, after = (one.settled().anchored() for one in (self.config(), config))
        changes = changed_keys(before, after)
        if found is not None:
            changes |= differences(recorded(found, "settings"), settings_of(config))
        was, now = self.data().get("fingerprint"), data.get("fingerprint")
        if was != now:
            changes[FINGERPRINT] = (was, now)
        refused = [
            f"{key} ({before!r} -> {after!r})"
            for key, (before, after) in changes.items()
            if key not in FREE_KEYS and key not in allow
        ]
        if refused:
            raise StateError(
                f"{self.path}: a resumed run would differ in {', '.join(refused)}; "
                "to do so on purpose, name each key with --allow-change KEY"
            )
        return changes

    def accept(
        self, config: Config, data: Mapping[str, Any], allow: Sequence[str], command: Sequence[str]
    ) -> None:
        """Take over a configuration for a resumed run, if it continues the same computation.

        Args:
            config: becomes config.yaml.
            data: becomes data.json.
            command: added to command.txt.
            allow: as in `refuse_changes`.

        Raises:
            StateError: other keys differ.
        """
        if self.refuse_changes(config, data, allow) or facts_of(self.data()) != facts_of(data):
            record = _json(_with_sources(data, config, self.path))
            replace_file(self.path / "config.yaml", configuration.dump(config).encode())
            replace_file(self.path / "data.json", record)
        append_to(self.path / "command.txt", shlex.join(command).encode() + b"\n", sync=True)

    def append_metrics(self, row: Mapping[str, Any], sync: bool = False) -> None:
        """Add one line to metrics.jsonl; values that are not finite become null."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        line = json.dumps(finite, allow_nan=False).encode() + b"\n"
        append_to(self.path / "metrics.jsonl", line, sync=sync)

    def cut_metrics(self, step: int) -> None:
        """Drop the lines of steps after `step`, and a last line that was cut short."""
        path = self.path / "metrics.jsonl"
        content = read_plain(path, METRICS) if os.path.lexists(path) else b""
        kept = []
        for line in content.splitlines(keepends=True):
            try:
                behind = line.endswith(b"\n") and json.loads(line)["step"] <= step
            except (ValueError, KeyError, TypeError, RecursionError):
                behind = False
            if not behind:
                break
            kept.append(line)
        replace_file(path, b"".join(kept))


def require_place(out: Path) -> None:
    """Raise BadFile unless run folders can be made under `out`, which need not be there yet."""
    place = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise BadFile(f"{out}: cannot write run folders there: {place} is no folder to write to")


def _make_numbered(out: Path, name: str) -> Path:
    while True:
        taken = [int(m[1]) for entry in os.scandir(out) if (m := _NUMBER.match(entry.name))]
        path = out / f"{max(taken, default=-1) + 1:05d}-{name}"
        try:
            path.mkdir()
        except FileExistsError:
            # Another process took the number between the look and the making.
            continue
        return path


def _with_sources(data: Mapping[str, Any], config: Config, run: Path) -> dict[str, Any]:
    """The record of the data, with where their files lie as seen from the run folder."""
    sources = {k: os.path.relpath(path, run) for k, path in config.sources.items()}
    return {**data, "sources": sources} if sources else dict(data)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"
