"""Finished units of work on the disk: each written once and whole, and known by its study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastgan.durable import replace_file, write_error
from fastgan.errors import CorruptFile, StateError
from fastgan.guarded import read_plain
from fastgan.utility.cohort import Cohort
from fastgan.utility.settings import Study

__all__ = ["Store", "open_store"]

STUDY = "study.json"
MOST = 256 << 20
"""Bytes of a unit at most: scores of a few thousand patients take far less."""


class Store:
    """The folder of a study.

    Attributes:
        path: of the folder.
        key: sha256 hex of the settings and the data; a unit of another key is refused.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def fold(self, number: int) -> Path:
        """The folder of a fold."""
        return self.path / f"fold-{number}"

    def read(self, fold: int, name: str) -> dict[str, Any] | None:
        """A finished unit of a fold; None where it is not done.

        Raises:
            StateError: it is of other settings or data.
            CorruptFile: it is not what was written.
        """
        path = self.fold(fold) / f"{name}.json"
        if not path.exists():
            return None
        content = _json(path)
        if content.get("key") != self.key:
            raise StateError(
                f"{path}: is of other settings or data; give another --out, or delete the folder"
            )
        return content

    def write(self, fold: int, name: str, content: Mapping[str, Any]) -> None:
        """Put a finished unit on the disk; a reader sees all of it or none."""
        unit = json.dumps({"key": self.key, **content}, allow_nan=False)
        replace_file(self.fold(fold) / f"{name}.json", unit.encode())

    def once(self, fold: int, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """A unit as it was finished before, or done and written now."""
        known = self.read(fold, name)
        if known is None:
            self.write(fold, name, work())
            known = self.read(fold, name)
            assert known is not None
        return known


def open_store(path: Path, study: Study, cohort: Cohort, external: Cohort | None) -> Store:
    """The folder of this study: made, or gone on with.

    Raises:
        StateError: it holds something else, or a study of other settings or data.
        BadFile, ResourceLimit: the file system refuses.
    """
    data = [cohort.fingerprint, "" if external is None else external.fingerprint]
    key = hashlib.sha256(json.dumps([study.digest, *data]).encode()).hexdigest()
    content = {"key": key, "data": data, "settings": study.model_dump(mode="json")}
    file = path / STUDY
    if not file.exists():
        # Another process of the same study may be about to write the same file.
        if path.exists() and (
            not path.is_dir() or any(one.suffix != ".partial" for one in path.iterdir())
        ):
            raise StateError(f"{path}: is not empty and holds no study; give another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        replace_file(file, json.dumps(content, indent=1).encode())
        return Store(path, key)
    before = _json(file)
    if before.get("key") != key:
        keys = _differing(before.get("settings", {}), content["settings"])
        what = f"other settings: {', '.join(keys[:5])}" if keys else "other data"
        raise StateError(f"{path}: holds a study of {what}; give another --out")
    return Store(path, key)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_plain(path, MOST))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path}: not JSON: {error}; delete it, and it is made anew") from None
    if not isinstance(content, dict):
        raise CorruptFile(f"{path}: not a unit of a study; delete it, and it is made anew")
    return content


def _differing(before: Any, now: Any, where: str = "") -> list[str]:
    """Dotted keys in which two settings differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        found = [_differing(before.get(k), now.get(k), f"{where}.{k}".lstrip(".")) for k in keys]
        return [key for one in found for key in one]
    return [where]
