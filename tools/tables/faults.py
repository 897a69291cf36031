"""The table of what faults did: counts, and bounds on how often they could have done harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastgan.audit.statistics import clopper_pearson
from tools.tables.markdown import table

__all__ = ["RENDERERS"]


class _Row(NamedTuple):
    what: str
    kind: str
    of: str
    """Key of the number of trials."""
    harm: tuple[str, ...]
    """Keys of what must not be; a trial of many calls counts once for each."""


ROWS = (
    _Row("SIGKILL at any moment of a training", "kills", "kills", ("lost", "untyped", "hangs")),
    _Row("a system call that fails or kills", "syscalls", "faults", ("lost", "other bits")),
    _Row("the same", "syscalls", "faults", ("untyped faults", "hangs")),
    _Row("two to four writers, one killed", "writers", "contended runs", ("other bits", "untyped")),
    _Row("a damaged file", "corruption", "corruptions", ("silent",)),
    _Row("the same", "corruption", "corruptions", ("untyped", "crashes", "hangs")),
    _Row("a hostile file or folder", "hostile", "hostile", ("executions", "writes outside")),
    _Row("the same", "hostile", "hostile", ("untyped", "crashes", "hangs")),
    _Row("a call of a public operator", "calls", "calls of operators", ("crashes", "hangs")),
    _Row("a call of an entry of `_C`", "calls", "calls of _C", ("crashes", "hangs")),
    _Row("the same under sanitizers", "sanitized", "sanitized calls", ("sanitizer reports",)),
)
GAMES = ("gan", "wgan", "wgan-gp", "conditional", "cyclegan")


def faults(files: list[Any]) -> list[str]:
    """What was done, how often, what went wrong, and the bound on how often it may."""
    counts = files[0]["counts"]
    rows = []
    for row in ROWS:
        found, trials = counts.get(row.kind, {}), counts.get(row.kind, {}).get(row.of, 0)
        harmed = sum(found.get(key, 0) for key in row.harm)
        rows.append([row.what, f"{trials:,}", ", ".join(row.harm), *_bounded(harmed, trials)])
    killed = counts.get("kills", {})
    runs = sum(killed.get(f"runs of {game}", 0) for game in GAMES)
    bits = _bounded(killed.get("other bits", 0), runs)
    rows.insert(1, ["the same, resumed to its end", f"{runs:,}", "other bits", *bits])
    return table(["what was done", "times", "what must not be", "was", "at most"], rows)


def games(files: list[Any]) -> list[str]:
    """Killed and resumed runs by game."""
    found = files[0]["counts"].get("kills", {})
    return table(
        ["game", "runs killed and resumed"],
        [[g, f"{found.get(f'runs of {g}', 0):,}"] for g in GAMES],
    )


def _bounded(harmed: int, trials: int) -> list[str]:
    if not trials:
        return ["not tried", ""]
    bound = clopper_pearson(min(harmed, trials), trials, side="upper")[1]
    return [f"{harmed:,}", f"{bound:.2%}" if bound >= 0.0001 else f"{bound:.4%}"]


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {"faults": faults, "killed_games": games}
