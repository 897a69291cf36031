"""Exact nearest neighbours beside their peers, in one process.

    python bench/nearest.py [--ct build/bench/cxr.nii.gz] [--quick] [--cpu-time]

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
chest CT, the pyramid is measured too: see nearest_ct.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nearest_ct
import torch
from nearest_study import study
from torch import Tensor

from fastgan.cli.process import keep_freed_memory
from fastgan.ops import nearest
from fastgan.reference.nearest import nearest as reference

# Noise of the planted near-copies, as a share of the typical distance.
PLANTED = [10.0**-i for i in range(1, 7)]
# A provider that took this long has been timed enough.
SECONDS = 4.0
Search = Callable[[Tensor], tuple[Tensor, Tensor]]
Clock = Callable[[], float]
Times = dict[str, dict[str, float]]


def timed(runs: dict[str, Callable[[], object]], rounds: int, clock: Clock) -> Times:
    """Medians and minima in milliseconds of what ran before; providers take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            if sum(seconds[name]) > SECONDS:
                continue
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return {
        name: {"median": 1e3 * sorted(s)[len(s) // 2], "min": 1e3 * min(s)}
        for name, s in seconds.items()
    }


def peers(target: Tensor, k: int) -> Iterator[tuple[str, torch.dtype, Search]]:
    """Name, dtype of the queries and search of every peer; one at a time holds its own copy."""
    single = target.float()

    def smallest(squared: Tensor) -> tuple[Tensor, Tensor]:
        found = squared.topk(k, dim=1, largest=False)
        return found.values.clamp(min=0).sqrt(), found.indices

    def cdist(mode: str) -> Search:
        def search(query: Tensor) -> tuple[Tensor, Tensor]:
            found = torch.cdist(query, single, compute_mode=mode).topk(k, dim=1, largest=False)
            return found.values, found.indices

        return search

    squares = single.square().sum(1)

    def matmul(query: Tensor) -> tuple[Tensor, Tensor]:
        own = query.square().sum(1, keepdim=True)
        return smallest(torch.addmm(squares, query, single.T, alpha=-2).add_(own))

    yield "cdist-matmul", torch.float32, cdist("use_mm_for_euclid_dist")
    yield "cdist-differences", torch.float32, cdist("donot_use_mm_for_euclid_dist")
    yield "matmul", torch.float32, matmul
    try:
        import faiss
    except ImportError:
        print("    faiss-cpu is not installed: no figures of it")
    else:
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(target.shape[1])
        index.add(single.numpy())

        def by_faiss(query: Tensor) -> tuple[Tensor, Tensor]:
            squared, found = index.search(query.numpy(), k)
            return torch.from_numpy(squared).clamp(min=0).sqrt(), torch.from_numpy(found)

        yield "faiss", torch.float32, by_faiss
    from sklearn.neighbors import NearestNeighbors

    # Its threads follow OpenMP's; n_jobs is for other algorithms.
    exact = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(target.double().numpy())

    def by_sklearn(query: Tensor) -> tuple[Tensor, Tensor]:
        distance, found = exact.kneighbors(query.numpy())
        return torch.from_numpy(distance), torch.from_numpy(found)

    yield "scikit-learn", torch.float64, by_sklearn


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
    return {"milliseconds": timed(runs, rounds, clock), "planted": found, "checked": checked}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, help="chest CT for the pyramid, a NIfTI file")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    parser.add_argument(
        "--cpu-time", action="store_true", help="of the process, for a machine that others use"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.count)
        return
    torch.manual_seed(0)
    clock = time.process_time if args.cpu_time else time.perf_counter
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "heap": "kept" if keep_freed_memory() else "default",
        "load before": os.getloadavg()[0],
        "rounds": args.rounds,
        "clock": clock.__name__,
        "planted": "relative error at noise of 1e-1 ... 1e-6 of the typical distance, or `another`",
    }
    report["int16 volumes"] = volumes(32 if args.quick else 128, args.rounds, clock)
    report["float32 features"] = features(1000 if args.quick else 10_000, args.rounds, clock)
    report["study"] = study(args.quick)
    if args.ct:
        report["pyramid"] = nearest_ct.measure(args.ct, args.quick, args.rounds, clock)
    else:
        print("no --ct: no figures of the pyramid (`make bench-data` fetches a chest CT)")
    report["load after"] = os.getloadavg()[0]
    capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
    folder = args.out / f"cpu-{capability}"
    folder.mkdir(parents=True, exist_ok=True)
    kind = "-quick" if args.quick else "-cpu-time" if args.cpu_time else ""
    path = folder / f"nearest{kind}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
