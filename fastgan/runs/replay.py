"""Volumes of a set generated once more, and compared bit for bit with what its passport says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastgan.data import read_volume
from fastgan.errors import ConfigError, FastganError, StateError
from fastgan.guarded import typed
from fastgan.runs.generate import drawn
from fastgan.runs.layouts import LAYOUTS
from fastgan.runs.load import Generator
from fastgan.runs.passport import Described, Passport, content_of, here, read_passport
from fastgan.train import checkpoint
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import repeatable
from fastgan.train.run_folder import RunFolder
from fastgan.train.run_key import holds, public_key

__all__ = ["Replayed", "replay"]


@dataclass(frozen=True)
class Replayed:
    """What came of it.

    Attributes:
        lines: for each volume, whether its bits are the same.
        equal: how many are.
        differing: facts of the machine that are not what they were: name to (then, now).
    """

    lines: tuple[str, ...]
    equal: int
    differing: dict[str, tuple[object, object]]

    @property
    def exit_code(self) -> int:
        """0: all bits are the same; 3: not, on an equal machine; 4: not, on another one."""
        if self.equal == len(self.lines):
            return 0
        return 4 if self.differing else 3


@typed("replay")
def replay(
    folder: Path, run: RunFolder, *, count: int | None = None, device: str = "auto"
) -> Replayed:
    """Generate the first volumes of a set again, in a folder of their own, and compare contents.

    Bits can only be the same where all that `passport.Machine` names is: versions of fastgan,
    torch and NumPy, the device, the processor's instructions and the implementation chosen. The
    number of threads is set to what it was.

    Args:
        folder: what `generate` wrote.
        run: the run it is of.
        count: volumes, from the first; None: all.
        device: as in `train.device`.

    Raises:
        StateError: the set is not signed by this run, or the run has its checkpoint no more.
        ConfigError: a count that cannot be, or a set of translations.
        BadFile and its kinds: no set, or one that is damaged.
    """
    passport, content, signature = read_passport(folder)
    key = public_key(run.path)
    if key is None or passport.key != key or not holds(key, signature or b"", content):
        raise StateError(f"{folder}: not signed by the key of {run.path}; see fastgan verify")
    if passport.made != "generate" or passport.layout not in LAYOUTS:
        raise ConfigError(f"{folder}: a set of translations; translate its sources again")
    if count is not None and not 1 <= count <= len(passport.volumes):
        raise ConfigError(f"--count: 1 to {len(passport.volumes)} volumes are there, got {count}")
    found = _checkpoint_of(passport, run)
    # Sums split over another number of threads round differently.
    with repeatable(deterministic=False, threads=passport.machine.threads):
        game = Generator(run, found, device)
        then, now = passport.machine.model_dump(), here(game.device).model_dump()
        results = list(_again(folder, passport, game, found, passport.volumes[:count]))
    return Replayed(
        tuple(line for line, _ in results),
        sum(same for _, same in results),
        {name: (then[name], now[name]) for name in then if then[name] != now[name]},
    )


def _checkpoint_of(passport: Passport, run: RunFolder) -> Checkpoint:
    path = run.path / f"ckpt-{passport.step}"
    if not path.is_dir():
        raise StateError(f"{run.path}: has no {path.name} any more, which made the set")
    found = checkpoint.read(path)
    if found.hash != passport.checkpoint:
        raise StateError(f"{path}: not the checkpoint that made the set; its hash is another")
    return found


def _again(
    folder: Path,
    passport: Passport,
    game: Generator,
    found: Checkpoint,
    volumes: list[Described],
) -> Iterator[tuple[str, bool]]:
    for one in volumes:
        if one.seed is None or one.index is None:
            raise ConfigError(f"{folder}: {one.path}: its passport names no seed and index")
        label = game.classes.index(one.label) if one.label in game.classes else None
        with tempfile.TemporaryDirectory() as place:
            made = drawn(game, found, one.index, label, one.seed)
            path = Path(place) / LAYOUTS[passport.layout].write(Path(place), made)
            same = content_of(path) == one.content
            about = "same bits" if same else f"other bits{_apart(folder / one.path, path)}"
        yield f"{about}  {one.path}", same


def _apart(before: Path, after: Path) -> str:
    """By how much they differ at most, where both can be read."""
    try:
        then, now = read_volume(before).array, read_volume(after).array
    except FastganError:
        return ""
    if then.shape != now.shape:
        return ", another shape"
    return f", at most {float(np.abs(then - now).max()):.3g} apart"
