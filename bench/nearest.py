"""Exact nearest neighbours beside their peers, in one process.

    python bench/nearest.py [--ct build/bench/cxr.nii.gz] [--only PART] [--quick] [--cpu-time]

Writes bench/results/<device>/nearest.json: milliseconds, medians and minima, of

    ours                fastgan.ops.nearest
    cdist-matmul        torch.cdist by the expansion |x|^2 + |y|^2 - 2 x y, float32
    cdist-differences   torch.cdist by differences, float32
    matmul              the expansion with squares of the targets computed before, float32
    faiss               IndexFlatL2, where faiss-cpu is installed, float32
    scikit-learn        NearestNeighbors, brute, float64: the one peer that is accurate

on int16 volumes and float32 features. All have the same threads, and their data in the type and
layout they like best before the clock starts. Beside each time stands what the provider answers for
planted near-copies; ours must be right before anything is timed. Providers take turns. With --ct, a
chest CT, the pyramid is measured too: see nearest_ct.py. --only measures one part, whole and in one
process, and keeps the rest of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nearest_ct
import torch
from nearest_peers import peers
from nearest_study import study
from torch import Tensor
from turns import Clock, folder_of, in_turns, setting

from fastgan.cli.process import keep_freed_memory
from fastgan.ops import nearest
from fastgan.reference.nearest import nearest as reference

# Noise of the planted near-copies, as a share of the typical distance.
PLANTED = [10.0**-i for i in range(1, 7)]
# What can be measured alone with --only, and where it stands in the report.
PARTS = {
    "volumes": "int16 volumes",
    "features": "float32 features",
    "study": "study",
    "pyramid": "pyramid",
}


def errors(found: tuple[Tensor, Tensor], true: Tensor, own: Tensor) -> list[str]:
    """For each planted pair: relative error of the distance [n], or what was found instead."""
    out = []
    for distance, index, t, o in zip(
        found[0][:, 0].tolist(), found[1][:, 0].tolist(), true.tolist(), own.tolist(), strict=True
    ):
        out.append(f"{abs(distance / t - 1):.1e}" if index == o else "another")
    return out


def compare(
    query: Tensor,
    target: Tensor,
    k: int,
    planted: Tensor,
    slow: dict[str, int],
    rounds: int,
    clock: Clock,
) -> dict[str, Any]:
    """Times of all providers; queries `i` of `planted` are near-copies of targets planted[i].

    slow: providers that are timed on their first so many queries only.
    """
    n = len(planted)
    true = (query[:n].double() - target[planted].double()).norm(dim=1)
    ours = nearest(query, target, k)
    checked = min(len(query), max(n, 2**28 // target.numel()))
    exact = reference_of(query[:checked], target, k)
    wrong = not torch.equal(ours[1][:checked], exact[1])
    off = float((ours[0][:checked] / exact[0] - 1).abs().nan_to_num(0).max())
    if wrong or off > 1e-6:
        raise SystemExit(f"ours is wrong (error {off:.1e}): no figure is worth printing")
    runs: dict[str, Callable[[], object]] = {"ours": lambda: nearest(query, target, k)}
    found = {"ours": errors((ours[0][:n], ours[1][:n]), true, planted)}
    for name, dtype, search in peers(target, k):
        converted = query[: slow.get(name, len(query))].to(dtype)
        label = f"{name}, {slow[name]} queries" if name in slow else name
        answer = search(converted)
        found[label] = errors((answer[0][:n], answer[1][:n]), true, planted)
        runs[label] = lambda s=search, q=converted: s(q)
    return {
        "milliseconds": in_turns(runs, rounds, clock=clock),
        "planted": found,
        "checked": checked,
    }


def reference_of(query: Tensor, target: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition, query by query and in blocks of targets: it makes all differences at once."""
    rows = max(1, 2**25 // target.shape[1])
    distance, index = [], []
    for q in query.split(1):
        parts = [reference(q, part, min(k, len(part))) for part in target.split(rows)]
        starts = range(0, len(target), rows)
        all_d = torch.cat([p[0] for p in parts], dim=1)
        all_i = torch.cat([p[1] + s for p, s in zip(parts, starts, strict=True)], dim=1)
        first = all_d.sort(dim=1, stable=True)
        distance.append(first.values[:, :k])
        index.append(all_i.gather(1, first.indices[:, :k]))
    return torch.cat(distance), torch.cat(index)


def near_copies(target: Tensor, rows: Tensor) -> Tensor:
    """[6, F] copies of float rows, with noise of the sizes PLANTED."""
    typical = (target[0].double() - target[1].double()).norm()
    noise = torch.nn.functional.normalize(torch.randn(len(rows), target.shape[1]).double())
    sizes = torch.tensor(PLANTED).double()[:, None] * typical
    return (target[rows].double() + sizes * noise).to(target.dtype)


def volumes(side: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """64 int16 volumes in HU; the first query is off a target by 1 HU in 1 of 1,000 voxels."""
    features = side**3
    target = torch.randint(-1024, 3072, (64, features), dtype=torch.int16)
    query = torch.randint(-1024, 3072, (32, features), dtype=torch.int16)
    query[0] = target[40] + (torch.rand(features) < 1e-3)
    out = {}
    for n in (1, 8, 32):
        out[f"{n} queries"] = compare(query[:n], target, 1, torch.tensor([40]), {}, rounds, clock)
        show(f"int16 {side}^3, 64 targets, {n} queries", out[f"{n} queries"])
    return out


def features(count: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """float32 features, six of the queries near-copies."""
    query, target = features_of(count)
    slow = {"cdist-differences": 100}
    found = compare(query, target, 10, torch.arange(6) * 11, slow, rounds, clock)
    found["peak MB over the inputs"] = {
        name: peak_of(name, count) for name in ("ours", "faiss") if name in found["milliseconds"]
    }
    show(f"float32 {count} x {count} x 512, k = 10", found)
    return found


def features_of(count: int) -> tuple[Tensor, Tensor]:
    target, query = torch.randn(count, 512), torch.randn(count, 512)
    query[:6] = near_copies(target, torch.arange(6) * 11)
    return query, target


def peak_of(name: str, count: int) -> float:
    """Largest resident memory of a search in a process of its own, less that before it, in MB."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", name, "--count", str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def print_peak(name: str, count: int) -> None:
    torch.manual_seed(0)
    query, target = features_of(count)
    if name == "faiss":
        search = next(s for n, _, s in peers(target[:100], 10) if n == name)
        search(query[:20])
        import faiss

        # Without its copy of the targets, which is an input here.
        index = faiss.IndexFlatL2(512)
        index.add(target.numpy())
        run: Callable[[], object] = lambda: index.search(query.numpy(), 10)  # noqa: E731
    else:
        nearest(query[:20], target[:20], 10)
        run = lambda: nearest(query, target, 10)  # noqa: E731
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1e3


def show(title: str, found: dict[str, Any]) -> None:
    own = found["milliseconds"]["ours"]["median"]
    print(title, flush=True)
    for name, t in found["milliseconds"].items():
        error = " ".join(found["planted"][name])
        ratio = t["median"] / own
        print(f"    {name:31}{t['median']:9.1f}{t['min']:9.1f} ms {ratio:6.1f}x   {error}")
    for name, peak in found.get("peak MB over the inputs", {}).items():
        print(f"    {name}: {peak:.0f} MB over the inputs", flush=True)


def clock_of(args: argparse.Namespace) -> Clock:
    return time.process_time if args.cpu_time else time.perf_counter


def measured(part: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of a part; data are the same whichever parts are measured."""
    torch.manual_seed(0)
    clock = clock_of(args)
    if part == "volumes":
        return volumes(32 if args.quick else 128, args.rounds, clock)
    if part == "features":
        return features(1000 if args.quick else 10_000, args.rounds, clock)
    if part == "study":
        return study(args.quick)
    return nearest_ct.measure(args.ct, args.quick, args.rounds, clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, help="chest CT for the pyramid, a NIfTI file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument(
        "--cpu-time", action="store_true", help="of the process, for a machine that others use"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, help="measure this part, keep the others' figures")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.count)
        return
    parts = [args.only] if args.only else list(PARTS)
    if not args.ct and "pyramid" in parts:
        parts.remove("pyramid")
        print("no --ct: no figures of the pyramid (`make bench-data` fetches a chest CT)")
    kind = "-quick" if args.quick else "-cpu-time" if args.cpu_time else ""
    path = folder_of(args.out) / f"nearest{kind}.json"
    known = json.loads(path.read_text()) if args.only and path.is_file() else {}
    kept = {"settings", *PARTS.values()} & known.keys()
    report: dict[str, Any] = {
        "planted": "relative error at noise of 1e-1 ... 1e-6 of the typical distance, or `another`",
        **{name: known[name] for name in kept},
    }
    heap = "kept" if keep_freed_memory() else "default"
    for part in parts:
        facts = setting()
        report[PARTS[part]] = measured(part, args)
        report.setdefault("settings", {})[PARTS[part]] = facts | {
            "rounds": args.rounds,
            "clock": clock_of(args).__name__,
            "heap": heap,
            "load after": os.getloadavg()[0],
        }
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
