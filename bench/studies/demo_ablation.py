"""The five settings that the demo's recipe changed together: each alone, and each left out.

    python bench/studies/demo_ablation.py [--share 0.1] [--seeds 0 1 2] [--recipes present ...]

The earlier recipe and the present one of examples/nodules_32.yaml differ in the settings of
CHANGES. Twelve recipes are trained: both, the earlier one with each change alone, the present one
with each left out. Each is cut to `--share` of its steps, the average of weights over the same
share of them, so that all cost minutes and not hours: what it shows is a hint, not a proof.

The generated masks are compared as in the demo, but with patients held out of the demo's training
patients. Its unseen patients are not looked at: this is for choosing.

Appends a line a run to bench/results/demo_ablation/runs.jsonl, seed by seed; what stands there is
not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastgan
from fastgan.audit.quality.fidelity import Masks, Row, compare
from fastgan.cli.process import keep_freed_memory
from fastgan.config import Config, load, parse
from fastgan.data import Dataset, level, open_dataset
from fastgan.data.splits import holdout_subjects
from fastgan.train import describe, fit
from fastgan.train.build import variant_of

RESULTS = Path(__file__).parents[1] / "results" / "demo_ablation" / "runs.jsonl"
# Setting -> its value in the earlier recipe and in the present one.
CHANGES: dict[str, tuple[Any, Any]] = {
    "minibatch_stddev": (0, 8),
    "batch size": (16, 8),
    "steps": (1800, 3000),
    "average of weights": (0.99, 0.995),
    # Share of partial voxels, and voxels from a border to where levels end.
    "levels": ((0.3, 2.5), (0.2, 3.0)),
}
# Of the training patients, as many are held out as the demo holds out of all.
DEMO_HOLDOUT = 0.3
HOLDOUT = DEMO_HOLDOUT + (1 - DEMO_HOLDOUT) * DEMO_HOLDOUT
PER_CLASS = 150


def recipes() -> dict[str, dict[str, Any]]:
    """Name of a recipe -> the value of each setting."""
    earlier = {name: values[0] for name, values in CHANGES.items()}
    present = {name: values[1] for name, values in CHANGES.items()}
    found = {"earlier": earlier, "present": present}
    for name in CHANGES:
        found[f"{name} alone"] = earlier | {name: present[name]}
    for name in CHANGES:
        found[f"without {name}"] = present | {name: earlier[name]}
    return found


def config_of(recipe: dict[str, Any], seed: int, share: float) -> Config:
    with as_file(files("fastgan.examples") / "nodules_32.yaml") as path:
        settings = load(path).model_dump(mode="json")
    settings["seed"] = seed
    settings["model"]["minibatch_stddev"] = recipe["minibatch_stddev"]
    steps = round(share * recipe["steps"])
    settings["train"] |= {
        "batch_size": recipe["batch size"],
        "steps": steps,
        "ema_decay": 1 - (1 - recipe["average of weights"]) / share,
        "checkpoint_every": steps,
        "sample_every": steps,
        "precision": "float32",
    }
    return parse(settings, where="demo_ablation")


@contextmanager
def levels_of(share: float, reach: float) -> Iterator[None]:
    """Data opened inside have these levels; they are no setting of a configuration."""
    before = level.SHARE, level.REACH
    # Whoever took the share by name has it under that name.
    users = [
        m for n, m in sys.modules.items() if n.startswith("fastgan.data.") and "SHARE" in vars(m)
    ]

    def give(share: float, reach: float) -> None:
        for module in users:
            vars(module)["SHARE"] = share
        level.REACH = reach

    try:
        give(share, reach)
        yield
    finally:
        give(*before)


def inner_split(train: Dataset) -> tuple[Dataset, Dataset]:
    """Training patients to train on, and those held out of them, by the hash of their names."""
    held = holdout_subjects((item.subject for item in train.items), HOLDOUT)
    inside = [item.subject in held for item in train.items]
    return train.subset(np.flatnonzero(~np.array(inside))), train.subset(np.flatnonzero(inside))


def masks_of(dataset: Dataset) -> Masks:
    values = np.stack([dataset.denormalise(dataset.volume(i)[0]) for i in range(len(dataset))])
    return Masks(values, np.asarray(dataset.labels))


def score(run: Path, classes: tuple[str, ...], known: Dataset, unseen: Dataset) -> Row:
    generator = fastgan.load(run)
    drawn = [generator.sample(PER_CLASS, label=name, seed=0).volumes for name in classes]
    values = np.concatenate([v.numpy()[:, 0] for v in drawn])
    generated = Masks(np.clip(values, 0.0, 1.0), np.repeat(np.arange(len(classes)), PER_CLASS))
    (row,) = compare({"generated": generated}, masks_of(unseen), masks_of(known), known.spacing)
    return row


def trained(recipe: dict[str, Any], seed: int, share: float) -> dict[str, Any]:
    config = config_of(recipe, seed, share)
    start, busy = time.perf_counter(), time.process_time()
    with levels_of(*recipe["levels"]), tempfile.TemporaryDirectory() as folder:
        known, unseen = inner_split(open_dataset(config.data, "train"))
        variant = variant_of(config, describe(known))
        run = fit(variant, known, config, out=folder, command=["bench/studies/demo_ablation.py"])
        row = score(run.path, known.classes, known, unseen)
    return {
        "steps": config.train.steps,
        "values": row.values,
        "outside": row.failed(),
        "volumes": {"trained on": len(known), "compared with": len(unseen)},
        "seconds": round(time.perf_counter() - start, 1),
        "core seconds": round(time.process_time() - busy, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.1, help="of the steps of each recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=recipes(), default=list(recipes()))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    keep_freed_memory()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.is_file() else []
    done = {(line["recipe"], line["seed"], line["share"]) for line in map(json.loads, lines)}
    for seed in args.seeds:
        for name in args.recipes:
            if (name, seed, args.share) in done:
                continue
            found = trained(recipes()[name], seed, args.share)
            line = {
                "recipe": name,
                "seed": seed,
                "share": args.share,
                **found,
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
            }
            with args.out.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            print(f"{name}, seed {seed}: {found['values']} in {found['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
