"""What training large volumes holds, measured here, and what a GPU that is not here would hold.

    python -m bench.studies.plan_memory [--only KINDS] [--again]

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
from types import SimpleNamespace
from typing import Any

import torch

from bench.studies.plan_accuracy import device_name, make_volumes
from fastgan.config import Config, parse
from fastgan.runs.elsewhere import line_of, predict_elsewhere, small_shapes
from fastgan.runs.estimates import shown
from fastgan.runs.probe import measure

ROOT = Path(__file__).parents[2]
GOAL = 0.10
"""Largest error of a predicted peak."""
GPU = 80 * 10**9
BATCH, CHECKED = 16, 2
RESULT = ROOT / "bench" / "results" / "plan" / f"memory-{device_name('cpu')}.json"
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"recompute": True},
    {"micro_batch": 2},
    {"micro_batch": 2, "recompute": True},
)
KINDS = ("saved", "predicted", "elsewhere")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--again", action="store_true", help="measure all peaks anew")
    args = parser.parse_args()
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "goal": GOAL}
    report |= facts | {"peaks": {} if args.again else report.get("peaks", {})}
    with tempfile.TemporaryDirectory() as folder:
        data = make_volumes(Path(folder) / "volumes", 96)
        study = Study(data, report)
        for kind in args.only:
            report[kind] = getattr(study, kind)()
            study.write()
    print(f"written: {RESULT}")


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


class Study:
    """Rows of every kind, from peaks that are each measured once and kept as they come."""

    def __init__(self, data: Path, report: dict[str, Any]) -> None:
        self._data, self._report = data, report

    def write(self) -> None:
        """Put the report where it belongs."""
        RESULT.write_text(json.dumps(self._report, indent=1) + "\n")

    def peak(self, config: Config) -> int:
        """Bytes; of one step, which is as high as any."""
        game = "cyclegan" if config.translates else config.model.architecture
        name, peaks = f"{game}, {shown(config)}", self._report["peaks"]
        if name not in peaks:
            peaks[name] = measure(config, patience=0.0).host_bytes
            print(f"{name}: {peaks[name] / 1e9:.3f} GB", flush=True)
            self.write()
        return int(peaks[name])

    def once(self, config: Config) -> Any:
        """As `probe.measure`, of which a line needs the peak."""
        return SimpleNamespace(host_bytes=self.peak(config))

    def saved(self) -> list[dict[str, Any]]:
        """Each game whole, in parts, and computed again."""
        rows = []
        for game, size, batch in (("dcgan", 96, 4), ("residual", 64, 4), ("cyclegan", 32, 4)):
            for way in WAYS:
                row = {"game": game, "shape": size, "batch": batch} | way
                config = config_of(self._data, size, batch, game, **way)
                rows.append(row | {"bytes": self.peak(config)})
        return rows

    def predicted(self) -> list[dict[str, Any]]:
        """Line and truth at volumes of which a step takes no more than a minute here."""
        rows = []
        for recompute in (False, True):
            config = config_of(self._data, 128, BATCH)
            line = line_of(config, small_shapes(config), recompute=recompute, measure=self.once)
            taken = self.peak(config_of(self._data, 128, CHECKED, recompute=recompute))
            told = line.peak(128**3, CHECKED)
            row = {"shape": 128, "batch": CHECKED, "recompute": recompute}
            row |= {"predicted": int(told), "measured": taken, "error": told / taken - 1.0}
            rows.append(row | {"within": abs(row["error"]) <= GOAL})
            print(rows[-1], flush=True)
        return rows

    def elsewhere(self) -> list[dict[str, Any]]:
        """Predictions that no machine here can check."""
        config = config_of(self._data, 256, BATCH)
        found = predict_elsewhere(config, GPU, measured_by=self.once)
        facts = {"game": "dcgan", "shape": 256, "batch": BATCH, "gpu": GPU}
        return [facts | vars(option) for option in found.options]


if __name__ == "__main__":
    main()
