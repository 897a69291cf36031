"""Fails where a committed ratio against the best stock form is missed.

    python bench/gates.py [results folder]

Reads what `make bench` wrote below the folder; goals are for medians, all providers in one process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LARGE = "2x32x64x64x64"


class Gate(NamedTuple):
    """The best peer's median over ours must reach the goal; peers: whose names begin so."""

    file: str
    name: str
    goal: float
    ours: str = "ours"
    peers: str = ""


GATES = [
    Gate("penalty-kept.json", "penalty, norm none", 2.4),
    Gate("penalty-kept.json", "penalty, norm instance", 1.6),
    Gate("penalty-kept.json", "critic step, norm none", 1.6),
    Gate("penalty-kept.json", "critic step, norm instance", 1.4),
    Gate("training-kept.json", "training step", 1.4),
    Gate("benchmarks.json", f"forward {LARGE}", 1.3, "native-NDHWC"),
    Gate("benchmarks.json", f"backward {LARGE}", 4, "native-NDHWC"),
    Gate("benchmarks.json", f"second {LARGE}", 6, "native-NDHWC"),
    Gate("benchmarks.json", f"forward {LARGE}", 2, "native-NDHWC", "inductor"),
    Gate("benchmarks.json", f"backward {LARGE}", 2, "native-NDHWC", "inductor"),
    Gate("benchmarks.json", f"second {LARGE}", 2, "native-NDHWC", "inductor"),
]
# In the layout of ours, and not ours in another form.
_STOCK = ("group_norm-NDHWC", "instance_norm-NDHWC")


def ratio(gate: Gate, milliseconds: dict[str, dict[str, dict[str, float]]]) -> float:
    """Best peer's median over ours."""
    times = {provider: t["median"] for provider, t in milliseconds[gate.name].items()}
    own = times.pop(gate.ours)
    if gate.peers:
        times = {name: t for name, t in times.items() if name.startswith(gate.peers)}
    elif gate.file == "benchmarks.json":
        times = {name: times[name] for name in _STOCK}
    return min(times.values()) / own


def judged(folder: Path) -> Iterator[tuple[Gate, float | None]]:
    """Every gate with its ratio in one device's results, None where there is no result."""
    for gate in GATES:
        path = folder / gate.file
        found = json.loads(path.read_text())["milliseconds"] if path.is_file() else {}
        yield gate, ratio(gate, found) if gate.name in found else None


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    folders = sorted({path.parent for path in root.glob("*/penalty-kept.json")})
    if not folders:
        print(f"no penalty-kept.json below {root}: run `make bench` first")
        return 1
    missed = 0
    for folder in folders:
        for gate, found in judged(folder):
            peer = f" beside {gate.peers}" if gate.peers else ""
            missed += found is None or found < gate.goal
            if found is None:
                print(f"{folder.name}: {gate.name}{peer}: no result")
                continue
            word = "missed" if found < gate.goal else "held"
            print(f"{folder.name}: {gate.name}{peer}: {found:.2f}x, goal {gate.goal}x: {word}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
