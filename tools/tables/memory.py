"""Tables of peak memory, from what `python -m bench.studies.plan_memory` wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.tables.markdown import table

__all__ = ["RENDERERS"]


def saved(files: list[Any]) -> list[str]:
    """Peaks of a batch at once, computed again, and by two volumes at a time."""
    cells: dict[tuple[str, int, int], dict[tuple[bool, bool], int]] = {}
    for row in files[0]["saved"]:
        way = "micro_batch" in row, row.get("recompute", False)
        cells.setdefault((row["game"], row["shape"], row["batch"]), {})[way] = row["bytes"]
    ways = ((False, False), (False, True), (True, False), (True, True))
    header = ("networks", "as it is", "`recompute`", "`micro_batch: 2`", "both")
    rows = [
        (f"{game}, {size}^3, batch {batch}", *(_gb(found[way]) for way in ways))
        for (game, size, batch), found in cells.items()
    ]
    return table(header, rows)


def predicted(files: list[Any]) -> list[str]:
    """Line and truth, the error beside its goal."""
    header = ("128^3", "predicted", "measured", "error", "goal")
    rows = []
    for row in files[0]["predicted"]:
        again = ", recomputed" if row["recompute"] else ""
        bound = f"{files[0]['goal']:.0%}"
        goal = bound if row["within"] else f"{bound}, missed"
        told, taken = _gb(row["predicted"]), _gb(row["measured"])
        rows.append((f"batch {row['batch']}{again}", told, taken, f"{row['error']:+.1%}", goal))
    return table(header, rows)


def elsewhere(files: list[Any]) -> list[str]:
    """What 256^3 is predicted to hold, by micro-batch."""
    found = {
        (row["game"], row["micro_batch"], row["recompute"]): row for row in files[0]["elsewhere"]
    }
    games = list(dict.fromkeys(game for game, _, _ in found))
    parts = sorted({part for _, part, _ in found}, reverse=True)
    header = ["`micro_batch`"]
    for game in games:
        header += [f"{game}, predicted", f"{game}, recomputed, predicted"]
    rows = []
    for part in parts:
        cells = [found[game, part, again] for game in games for again in (False, True)]
        told = [f"{_gb(c['device_bytes'])}{'' if c['fits'] else ', too much'}" for c in cells]
        rows.append((str(part), *told))
    return table(header, rows)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "memory_saved": saved,
    "memory_predicted": predicted,
    "memory_elsewhere": elsewhere,
}
