"""What a batch of real volumes costs the host, with one thread and with several.

    python bench/sampling.py [--rounds 15] [--threads N] [--results FOLDER]

Batches of 8 are drawn from 16 volumes that are cached as int16, at random corners:

    whole-arrays   each crop to float32, scaled, stacked: three passes over whole volumes
    one-thread     `Dataset.sample`
    threads        `Dataset.sample` with rows filled by N threads, by default one a core

All must give the same bits before a time is printed; they take turns. Writes
bench/results/<device>/sampling.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from turns import folder_of, in_turns, setting

from fastgan.cli.process import keep_freed_memory
from fastgan.data import Dataset, Item
from fastgan.data.workspace import Workspace

SIDES, BATCH, VOLUMES, MARGIN = (64, 128), 8, 16, 8


def data_of(side: int) -> Dataset:
    """Random voxels: what they are changes no time."""
    rng = np.random.default_rng(0)
    extent = (1, *(side + MARGIN,) * 3)
    stored = [rng.integers(-32767, 32768, extent, np.int16) for _ in range(VOLUMES)]
    items = [Item(path=f"v{i}", label=None, subject=f"p{i}") for i in range(VOLUMES)]
    facts: Any = {"kind": "none"}
    return Dataset(
        stored,
        items,
        shape=(side, side, side),
        spacing=(1.0, 1.0, 1.0),
        normalisation=facts,
        fingerprint="0" * 64,
        patch=True,
    )


def whole_arrays(data: Dataset) -> Tensor:
    """A batch in passes over whole volumes, from the draws of `Dataset.sample`."""
    rng = np.random.default_rng(0)
    rows = []
    for i in rng.integers(0, len(data), BATCH):
        extent = data.stored[i].shape[1:]
        corner = [int(rng.integers(0, n - m + 1)) for n, m in zip(extent, data.shape, strict=True)]
        d, h, w = (slice(c, c + m) for c, m in zip(corner, data.shape, strict=True))
        rows.append(data.stored[i][:, d, h, w].astype(np.float32) * np.float32(1.0 / 32767))
    volumes = torch.from_numpy(np.stack(rows))
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def measured(side: int, threads: int, rounds: int) -> dict[str, Any]:
    """Times of a side, and ratios of medians and of minima to whole-arrays."""
    data, crew = data_of(side), Workspace(threads)
    runs = {
        "whole-arrays": lambda: whole_arrays(data),
        "one-thread": lambda: data.sample(BATCH, np.random.default_rng(0)).volumes,
        "threads": lambda: data.sample(BATCH, np.random.default_rng(0), workspace=crew).volumes,
    }
    expected = runs["whole-arrays"]()
    for name, run in runs.items():
        if not torch.equal(run(), expected):
            raise SystemExit(f"{name} at {side}^3: other bits than whole-arrays")
    times = in_turns(runs, rounds, warm=1)
    crew.close()
    base = times["whole-arrays"]
    ratios = {
        name: {which: time[which] / base[which] for which in ("median", "min")}
        for name, time in times.items()
    }
    for name, time in times.items():
        for which, ratio in ratios[name].items():
            print(f"{side:4}^3  {name:13} {which:7} {time[which]:8.2f} ms  {ratio:5.2f}")
    return {"times": times, "of whole-arrays": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    keep_freed_memory()
    facts = setting() | {"row threads": args.threads, "batch": BATCH}
    found = {f"{side}^3": measured(side, args.threads, args.rounds) for side in SIDES}
    path = folder_of(args.results) / "sampling.json"
    path.write_text(json.dumps({"setting": facts, "sides": found}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
