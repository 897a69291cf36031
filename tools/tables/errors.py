"""Tables of what the operators' tests see: rounding errors and mutants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.tables.markdown import table

__all__ = ["RENDERERS"]


def rounding(files: list[Any]) -> list[str]:
    """Error beside PyTorch's, by operator and dtype."""
    rows = []
    for name, row in files[0]["operators"].items():
        operator, dtype = name.split(", ")
        few = f"{row['above_of_few']}"
        if row["worst_of_few"] > 1.5:
            few += f" ({row['worst_of_few']:.2g})"
        figures = [f"{row['mean']:.2f}", f"{row['worst']:.2f}", f"{row['above']}"]
        rows.append([operator, dtype, *figures, few])
    shapes = {row["shapes"] for row in files[0]["operators"].values()}
    header = ["operator", "dtype", "geometric mean", "worst"]
    above = f"shapes above 2.5, of {', '.join(map(str, sorted(shapes)))}"
    return table([*header, above, "of few numbers"], rows)


def mutants(files: list[Any]) -> list[str]:
    """Mutants and how many were noticed, by language."""
    rows = []
    for name, start in (("Python (`fastgan/ops`)", "fastgan/"), ("C++ (`csrc`)", "csrc/")):
        found = [m["verdict"] for m in files[0]["mutants"] if m["file"].startswith(start)]
        survived = sum(verdict == "survived" for verdict in found)
        rows.append([name, f"{len(found)}", f"{len(found) - survived}", f"{survived}"])
    return table(["", "mutants", "noticed", "survived"], rows)


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {"rounding": rounding, "mutants": mutants}
