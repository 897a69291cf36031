"""Passes of the native norm_act beside a copy: the share of copy bandwidth on ideal bytes.

    python bench/bandwidth.py [--shape 2 32 64 64 64] [--rounds 25] [--processes 5]

Writes bench/results/<device>/bandwidth.json. Outputs are allocated and touched beforehand. Ideal
bytes are what a pass would move if it read each input and wrote each output once: two volumes
forward and for the application of known statistics, three backward, five for the second
derivative. A share is that amount by the pass's minimum, over two volumes by the minimum of
`Tensor.copy_`, which reads a cache line before it writes it: above one where ours goes around the
cache. Passes and the copy take turns. Each is compared with the reference before it is timed.

How a process's pages fall into the caches moves its shares by a tenth, and now and then by a third:
several processes are run, one after the other, and the median of their shares is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from turns import Times, folder_of, in_turns, setting

from fastgan.ops.implementations.extension import loaded
from fastgan.reference import norm_act as reference

SLOPE, EPS = 0.2, 1e-5
# Volumes that an ideal pass moves.
VOLUMES = {"copy": 2, "application": 2, "forward": 2, "backward": 3, "second": 5}
# Largest difference from the reference in float64, over the largest value.
TOLERANCE = 1e-4
# Distance from the activation's kink, where rounding would decide the slope.
MARGIN = 1e-4


def passes(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """Passes into outputs made beforehand; each has been checked."""
    torch.manual_seed(0)
    last = torch.channels_last_3d
    x, g, v, first, second = (torch.randn(shape).contiguous(memory_format=last) for _ in range(5))
    weight, bias, gg_weight, gg_bias = torch.randn(4, shape[1])
    d_weight, d_bias = torch.empty(2, shape[1])
    groups, threads, extension = shape[1], torch.get_num_threads(), loaded()
    while True:
        z, mean, rstd = reference.norm_act_fwd(x.double(), weight, bias, groups, EPS, 1.0)
        if not (near := z.abs() < MARGIN).any():
            break
        x[near] = torch.randn(int(near.sum()))
    mean, rstd = mean.float(), rstd.float()
    affine, common = (weight, bias), (groups, SLOPE, threads)
    known = (x, mean, rstd, *affine)
    runs: dict[str, Callable[[], object]] = {
        "copy": lambda: first.copy_(x),
        "application": lambda: extension.norm_act_apply(*known, *common, first),
        "forward": lambda: extension.norm_act_fwd(
            x, *affine, groups, EPS, SLOPE, threads, first, mean, rstd
        ),
        "backward": lambda: extension.norm_act_bwd(g, *known, *common, first, d_weight, d_bias),
        "second": lambda: extension.norm_act_bwd_bwd(
            v, gg_weight, gg_bias, g, *known, *common, first, second, d_weight
        ),
    }
    exact = [t.double() for t in known]
    value = reference.norm_act_apply(*exact, groups, SLOPE)
    slope = reference.norm_act_bwd(g.double(), *exact, groups, SLOPE)
    cotangents = [t.double() for t in (v, gg_weight, gg_bias, g)]
    derivative = reference.norm_act_bwd_bwd(*cotangents, *exact, groups, SLOPE)
    expected = {
        "copy": [x],
        "application": [value],
        "forward": [value],
        "backward": [slope[0]],
        "second": derivative[:2],
    }
    for name, run in runs.items():
        run()
        for found, e in zip((first, second), expected[name], strict=False):
            error = float((found - e).abs().max() / e.abs().max())
            if not error <= TOLERANCE:
                raise SystemExit(f"{name} differs by {error:.2e}: no figure is worth printing")
    return runs


def measured(shape: tuple[int, ...], rounds: int) -> Times:
    """Medians and minima in milliseconds, and shares, of one process: this one."""
    times = in_turns(passes(shape), rounds)
    copy = times["copy"]["min"] / VOLUMES["copy"]
    return {name: {**t, "share": VOLUMES[name] * copy / t["min"]} for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=5, default=(2, 32, 64, 64, 64))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measured(tuple(args.shape), args.rounds)))
        return
    facts, runs = setting(), []
    command = [sys.executable, __file__, "--alone", "--rounds", str(args.rounds)]
    for _ in range(args.processes):
        found = subprocess.run(
            [*command, "--shape", *map(str, args.shape)], stdout=subprocess.PIPE, check=True
        )
        runs.append(json.loads(found.stdout))
    shares = {name: statistics.median(run[name]["share"] for run in runs) for name in VOLUMES}
    times = {
        name: {key: statistics.median(run[name][key] for run in runs) for key in ("median", "min")}
        for name in VOLUMES
    }
    for name, t in times.items():
        every = " ".join(f"{100 * run[name]['share']:3.0f}" for run in runs)
        share = 100 * shares[name]
        print(f"{name:12}{t['median']:8.2f}{t['min']:8.2f} ms  {share:4.0f} %  of {every}")
    report = facts | {
        "workload": f"{'x'.join(map(str, args.shape))}, float32, channels_last_3d",
        "rounds": args.rounds,
        "milliseconds, medians of the processes": times,
        "share of copy bandwidth, minima": shares,
        "shares of each process": {name: [run[name]["share"] for run in runs] for name in VOLUMES},
    }
    path = folder_of(args.out) / "bandwidth.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
