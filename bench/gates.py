"""Fails where a committed ratio against the best stock form is missed.

    python bench/gates.py [results folder]

Reads every penalty-kept.json below the folder; goals are for medians, all providers in one process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

GATES = {
    "penalty, norm none": 2.4,
    "penalty, norm instance": 1.6,
    "critic step, norm none": 1.6,
    "critic step, norm instance": 1.4,
}


def ratios(path: Path) -> dict[str, float]:
    """Best peer's median over ours, for each gate."""
    milliseconds = json.loads(path.read_text())["milliseconds"]
    found = {}
    for name in GATES:
        times = {provider: t["median"] for provider, t in milliseconds[name].items()}
        own = times.pop("ours")
        found[name] = min(times.values()) / own
    return found


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    files = sorted(root.glob("*/penalty-kept.json"))
    if not files:
        print(f"no penalty-kept.json below {root}: run `make bench` first")
        return 1
    missed = 0
    for path in files:
        for name, ratio in ratios(path).items():
            missed += ratio < GATES[name]
            word = "missed" if ratio < GATES[name] else "held"
            print(f"{path.parent.name}: {name}: {ratio:.2f}x, goal {GATES[name]}x: {word}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
