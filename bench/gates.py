"""Fails where a committed ratio against a peer is missed.

    python bench/gates.py [results folder]

Reads what `make bench` wrote below the folder. A ratio is that of the best peer, in whichever
memory layout it is faster, by medians or by minima, whichever says less.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Gate = tuple[str, float, float]  # name, ratio, goal
Times = dict[str, dict[str, float]]

# Against the best of the stock forms.
PENALTY = {
    "penalty, norm none": 2.4,
    "penalty, norm instance": 1.6,
    "critic step, norm none": 1.6,
    "critic step, norm instance": 1.4,
}
# Of our penalty over its convolution passes alone.
MOST_OVER_BARE = 1.2
TRAINING = {"training step": 1.4}
# Pass of norm_act -> goal beside the stock forms, and beside Inductor.
NORM = {"forward": (1.3, 2), "backward": (4, 2), "second": (6, 2)}
# Of copy bandwidth on ideal bytes, each whole pass into outputs made beforehand.
NORM_BANDWIDTH = 0.8
NORM_SHAPE = "2x32x64x64x64"
NORM_STOCK = (
    *("group_norm-NCDHW", "instance_norm-NCDHW"),
    *("group_norm-NDHWC", "instance_norm-NDHWC"),
)
NORM_COMPILED = ("inductor-NCDHW", "inductor-NDHWC")
# Against each peer, for every number of queries.
VOLUMES = {"cdist-matmul": 20, "matmul": 1.5, "scikit-learn": 40, "faiss": 2}
FEATURES = {"faiss": 2}
MOST_MEGABYTES = 1000
# Percent of the data, on the chest CT.
MOST_READ = {"fresh": 1.0, "copies": 0.5}
# `auto` beside brute force, where the clock's own noise is allowed for.
MOST_AUTO = 1.05


def against(times: Times, own: str, peers: Iterable[str]) -> float:
    """The best peer's time over ours, by medians and by minima: the smaller of the two."""
    names = [peer for peer in peers if peer in times]
    return min(
        min(times[peer][which] for peer in names) / times[own][which] for which in ("median", "min")
    )


def stock(report: dict[str, Any], goals: dict[str, float]) -> Iterator[Gate]:
    """The best peer over ours."""
    for name, goal in goals.items():
        times = report["milliseconds"][name]
        yield name, against(times, "ours", times.keys() - {"ours"}), goal


def penalty(report: dict[str, Any]) -> Iterator[Gate]:
    """Likewise, and the goal over the penalty's share of its bare passes, which has to reach 1."""
    yield from stock(report, PENALTY)
    for name, found in report["penalty over bare passes"].items():
        over = max(found["ratio"]["median"], found["ratio"]["min"])
        yield f"penalty, {name}, over its passes ({over:.2f})", MOST_OVER_BARE / over, 1


def norm(report: dict[str, Any]) -> Iterator[Gate]:
    """Likewise, of each pass of norm_act."""
    for name, (beside_stock, beside_inductor) in NORM.items():
        times = report["milliseconds"][f"{name} {NORM_SHAPE}"]
        own = "native-NDHWC"
        yield f"norm_act, {name}", against(times, own, NORM_STOCK), beside_stock
        compiled = against(times, own, NORM_COMPILED)
        yield f"norm_act, {name}, inductor", compiled, beside_inductor


def bandwidth(report: dict[str, Any]) -> Iterator[Gate]:
    """Shares of copy bandwidth."""
    for name in NORM:
        share = report["share of copy bandwidth, minima"][name]
        yield f"norm_act, {name}, of copy bandwidth", share, NORM_BANDWIDTH


def nearest(report: dict[str, Any]) -> Iterator[Gate]:
    """Likewise; where less is better, the goal over what was measured, which has to reach 1."""
    cases = [(n, VOLUMES, found) for n, found in report["int16 volumes"].items()]
    cases.append(("features", FEATURES, report["float32 features"]))
    for case, goals, found in cases:
        times = found["milliseconds"]
        for peer, goal in goals.items():
            if peer in times:
                yield f"nearest, {case}, {peer}", against(times, "ours", [peer]), goal
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


GATES = {
    "penalty-kept.json": penalty,
    "training-kept.json": lambda report: stock(report, TRAINING),
    "benchmarks.json": norm,
    "bandwidth.json": bandwidth,
    "nearest.json": nearest,
}


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results"
    folders = sorted({path.parent for name in GATES for path in root.glob(f"*/{name}")})
    if not folders:
        print(f"no results below {root}: run `make bench` first")
        return 1
    missed = 0
    for folder in folders:
        for file, gates in GATES.items():
            path = folder / file
            if not path.is_file():
                print(f"{folder.name}: no {file}")
                missed += 1
                continue
            for name, ratio, goal in gates(json.loads(path.read_text())):
                word = "missed" if ratio < goal else "held"
                missed += ratio < goal
                print(f"{folder.name}: {name}: {ratio:.2f}x, goal {goal}x: {word}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
