"""The demo as it is shipped, over seeds of the training and splits of the patients.

    python bench/studies/demo_repeats.py [--seeds 0 1 2 3] [--splits 0 1 2]

Trains, draws 500 volumes and compares them with the held-out patients as `fastgan demo` does: every
seed on split 0, which is the demo's own, and seed 0 on every other split. A split holds out another
three tenths of the patients, by the hash of its number and their names. A run takes some seven
minutes of a core.

Appends a line a run to bench/results/demo_repeats/runs.jsonl; what stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import setting

import fastgan
from fastgan.audit.quality.fidelity import Masks
from fastgan.cli.process import keep_freed_memory
from fastgan.config import Config, load, parse
from fastgan.data import Dataset, open_dataset
from fastgan.data.splits import holdout_subjects
from fastgan.runs.demo import judge
from fastgan.train import describe, fit
from fastgan.train.build import variant_of

RESULTS = Path(__file__).parents[1] / "results" / "demo_repeats" / "runs.jsonl"
COUNT = 500


def config_of(seed: int, steps: int | None) -> Config:
    with as_file(files("fastgan.examples") / "nodules_32.yaml") as path:
        settings = load(path).model_dump(mode="json")
    settings["seed"] = seed
    if steps is not None:
        settings["train"]["steps"] = steps
    return parse(settings, where="demo_repeats")


def split_of(config: Config, split: int) -> tuple[Dataset, Dataset]:
    """Trained on and held out; split 0 is the demo's."""
    every = open_dataset(config.data.model_copy(update={"holdout": 0.0}), "train")
    name = {i.subject: f"{split}/{i.subject}" if split else i.subject for i in every.items}
    held = holdout_subjects(name.values(), config.data.holdout)
    inside = np.array([name[item.subject] in held for item in every.items])
    return every.subset(np.flatnonzero(~inside)), every.subset(np.flatnonzero(inside))


def repeated(seed: int, split: int, steps: int | None) -> dict[str, Any]:
    config = config_of(seed, steps)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        known, unseen = split_of(config, split)
        variant = variant_of(config, describe(known))
        run = fit(variant, known, config, out=folder, command=["bench/studies/demo_repeats.py"])
        generator = fastgan.load(run.path)
        labels = list(generator.labels(COUNT, None, 0, equal=True))
        volumes = np.stack([generator.volume(i, k, 0)[0] for i, k in enumerate(labels)])
    rows, _ = judge(Masks(np.clip(volumes, 0.0, 1.0), np.array(labels)), known, unseen)
    return {
        "steps": config.train.steps,
        "patients": {
            "trained on": len({i.subject for i in known.items}),
            "held out": len({i.subject for i in unseen.items}),
        },
        "volumes": {"trained on": len(known), "held out": len(unseen)},
        "rows": {row.name: row.values for row in rows},
        "outside": {row.name: row.failed() for row in rows},
        "seconds": round(time.perf_counter() - start),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="fewer than the demo's: does it run at all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    keep_freed_memory()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.is_file() else []
    done = {(line["seed"], line["split"]) for line in map(json.loads, lines)}
    wanted = [(seed, 0) for seed in args.seeds] + [(0, split) for split in args.splits]
    for seed, split in dict.fromkeys(wanted):
        if (seed, split) in done:
            continue
        facts = setting()
        found = {"seed": seed, "split": split, **repeated(seed, split, args.steps), **facts}
        with args.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(found) + "\n")
        outside = found["outside"]["generated"]
        print(f"seed {seed}, split {split}: outside {outside or 'none'}", flush=True)


if __name__ == "__main__":
    main()
