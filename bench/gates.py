"""Fails where a committed ratio against a peer is missed.

    python bench/gates.py [results folder]

Reads every penalty-kept.json and nearest.json below the folder; goals are for medians, all
providers in one process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Against the best of the stock forms.
PENALTY = {
    "penalty, norm none": 2.4,
    "penalty, norm instance": 1.6,
    "critic step, norm none": 1.6,
    "critic step, norm instance": 1.4,
}
# Against each peer, for every number of queries.
VOLUMES = {"cdist-matmul": 20, "matmul": 1.5, "scikit-learn": 40, "faiss": 2}
FEATURES = {"faiss": 2}
MOST_MEGABYTES = 1000
# Percent of the data, on the chest CT.
MOST_READ = {"fresh": 1.0, "copies": 0.5}
# `auto` beside brute force, where the clock's own noise is allowed for.
MOST_AUTO = 1.05


def penalty(report: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Name, best peer's median over ours, and goal of each gate."""
    for name, goal in PENALTY.items():
        times = {p: t["median"] for p, t in report["milliseconds"][name].items()}
        own = times.pop("ours")
        yield name, min(times.values()) / own, goal


def nearest(report: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Likewise; where less is better, the goal over what was measured, which has to reach 1."""
    cases = [(n, VOLUMES, found) for n, found in report["int16 volumes"].items()]
    cases.append(("features", FEATURES, report["float32 features"]))
    for case, goals, found in cases:
        times = found["milliseconds"]
        for peer, goal in goals.items():
            if peer in times:
                ratio = times[peer]["median"] / times["ours"]["median"]
                yield f"nearest, {case}, {peer}", ratio, goal
    peak = report["float32 features"]["peak MB over the inputs"]["ours"]
    yield f"nearest, features, memory ({peak:.0f} MB)", MOST_MEGABYTES / peak, 1
    for patches, found in report.get("pyramid", {}).items():
        if not isinstance(found, dict):
            continue
        for kind, most in MOST_READ.items():
            read = found[f"read, {kind}, %"]
            yield f"nearest, pyramid, {patches}, {kind} ({read:.2f} % read)", most / read, 1
            slowest = max(t["auto"] / t["brute"] for t in found[kind].values())
            yield f"nearest, auto, {patches}, {kind}", MOST_AUTO / slowest, 1


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    files = {gate: sorted(root.glob(f"*/{name}.json")) for name, gate in GATES.items()}
    if not any(files.values()):
        print(f"no results below {root}: run `make bench` first")
        return 1
    missed = 0
    for gate, paths in files.items():
        for path in paths:
            for name, ratio, goal in gate(json.loads(path.read_text())):
                missed += ratio < goal
                word = "missed" if ratio < goal else "held"
                print(f"{path.parent.name}: {name}: {ratio:.2f}x, goal {goal}x: {word}")
    return int(missed > 0)


GATES = {"penalty-kept": penalty, "nearest": nearest}


if __name__ == "__main__":
    sys.exit(main())
