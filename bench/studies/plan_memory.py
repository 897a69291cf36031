"""What training large volumes holds, measured here, and what a GPU that is not here would hold.

    python -m bench.studies.plan_memory [--only KINDS]

Peaks are those of `fastgan plan`: resident memory of a child that trains one step, draws a picture
and generates, by `fastgan.runs.probe`. Three kinds of rows:

saved       the same batch at once, in micro-batches, and with passes computed again
predicted   128^3 from the peaks of 64^3 and 96^3, beside what 128^3 then takes
elsewhere   256^3 on a GPU of 80 GB, by the same line: a prediction, nothing was measured

Writes bench/results/plan/memory-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.studies.plan_accuracy import device_name, make_volumes
from fastgan.config import Config, parse
from fastgan.runs.elsewhere import line_of, predict_elsewhere, small_shapes
from fastgan.runs.probe import measure

GOAL = 0.10
"""Largest error of a predicted peak."""
GPU = 80 * 10**9
BATCH = 16
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"recompute": True},
    {"micro_batch": 2},
    {"micro_batch": 2, "recompute": True},
)
GAMES = ("dcgan",)
KINDS = ("saved", "predicted", "elsewhere")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "plan")
    args = parser.parse_args()
    path = args.out / f"memory-{device_name('cpu')}.json"
    with tempfile.TemporaryDirectory() as folder:
        data = make_volumes(Path(folder) / "volumes", 96)
        found = {
            "saved": lambda: saved(data),
            "predicted": lambda: predicted(data),
            "elsewhere": lambda: elsewhere(data),
        }
        rows = {kind: found[kind]() for kind in args.only}
    before = json.loads(path.read_text()) if path.exists() else {}
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "goal": GOAL}
    report = before | facts | rows
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


def config_of(data: Path, size: int, batch: int, game: str = "dcgan", **train: Any) -> Config:
    """Default networks of a game on made-up volumes."""
    sections: dict[str, Any] = {
        "data": {"source": str(data), "shape": [size] * 3, "holdout": 0.0},
        "train": {"batch_size": batch, "device": "cpu", "steps": 1000} | train,
    }
    if game == "cyclegan":
        sections["gan"] = {"variant": "cyclegan", "pool_size": 0}
        sections["data"]["source_b"] = str(data)
    else:
        sections["model"] = {"architecture": game}
        sections["gan"] = {"critic_steps": 1}
    return parse(sections)


def peak(config: Config) -> int:
    """Bytes; of one step, which is as high as any."""
    return measure(config, patience=0.0).host_bytes


def saved(data: Path) -> list[dict[str, Any]]:
    """Each game whole, in parts, and computed again."""
    rows = []
    for game, size, batch in (("dcgan", 96, 4), ("residual", 64, 4), ("cyclegan", 32, 4)):
        for way in WAYS:
            row = {"game": game, "shape": size, "batch": batch} | way
            rows.append(row | {"bytes": peak(config_of(data, size, batch, game, **way))})
            print(rows[-1], flush=True)
    return rows


def predicted(data: Path) -> list[dict[str, Any]]:
    """Line and truth at the largest volumes that take no more than a minute here."""
    rows = []
    for recompute in (False, True):
        config = config_of(data, 128, 4)
        line = line_of(config, small_shapes(config), recompute=recompute, measure=once)
        for batch in (2, 4):
            taken = peak(config_of(data, 128, batch, recompute=recompute))
            told = line.peak(128**3, batch)
            row = {"shape": 128, "batch": batch, "recompute": recompute}
            row |= {"predicted": int(told), "measured": taken, "error": told / taken - 1.0}
            rows.append(row | {"within": abs(row["error"]) <= GOAL})
            print(rows[-1], flush=True)
    return rows


def elsewhere(data: Path) -> list[dict[str, Any]]:
    """Predictions that no machine here can check."""
    rows = []
    for game in GAMES:
        config = config_of(data, 256, BATCH, game)
        found = predict_elsewhere(config, GPU, measured_by=once)
        for option in found.options:
            rows.append({"game": game, "shape": 256, "batch": BATCH, "gpu": GPU} | vars(option))
            print(rows[-1], flush=True)
    return rows


def once(config: Config) -> Any:
    """One step of a configuration, measured."""
    return measure(config, patience=0.0)


if __name__ == "__main__":
    main()
