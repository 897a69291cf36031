"""What `fastgan plan` predicts beside what training then takes, on volumes made up here.

    python bench/studies/plan_accuracy.py [--steps 12] [--rounds 3] [--sizes 32 64 96]

For each size and two batch sizes of the default networks, in turn: a prediction from its few steps,
then `fastgan train` for a dozen, as a process of its own. Compared are seconds a step (medians over
rounds; of the training, of its steps after the second) and the peak of resident memory (the largest
of the rounds). Times of a busy machine say nothing: the load is printed beside them. Writes
bench/results/plan/<device>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan import config as configuration
from fastgan.config import Config, parse
from fastgan.data import save_volume
from fastgan.runs.prediction import predict
from fastgan.runs.probe import measure

BATCHES = {32: (8, 16), 64: (2, 4), 96: (1, 2)}
VOLUMES, WARM = 8, 2
TIME_GOAL, MEMORY_GOAL = 0.25, 0.10
# The command line as it is, and then what its process held at most.
TRAIN = (
    "import sys; from fastgan.cli.main import main; code = main(sys.argv[1:]); import torch; "
    "from fastgan.train.device import peak_memory; "
    "print(peak_memory(torch.device('cpu')), file=open('peak', 'w')); sys.exit(code)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "plan")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            data = make_volumes(Path(folder) / f"volumes-{size}", size)
            for batch in BATCHES[size]:
                config = config_of(data, size, batch, args.steps, args.device)
                rows.append(compare(config, Path(folder) / f"{size}-{batch}", args.rounds))
                print(line(rows[-1]), flush=True)
    missed = [row["what"] for row in rows if not row["within goals"]]
    report = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device_name(args.device),
        "goals": {"time": TIME_GOAL, "memory": MEMORY_GOAL},
        "rows": rows,
    }
    path = args.out / f"{device_name(args.device)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")
    print(f"outside the goals: {', '.join(missed) or 'none'}")


def make_volumes(folder: Path, size: int) -> Path:
    """Balls of different sizes and places in noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    for i in range(VOLUMES):
        centre = rng.uniform(-0.2, 0.2, (3, 1, 1, 1))
        ball = ((grid - centre) ** 2).sum(0) < rng.uniform(0.5, 0.8) ** 2
        values = 500.0 * ball + 100.0 * rng.standard_normal(ball.shape) + 300.0
        save_volume(folder / f"sub-{i:02d}.nii.gz", values.astype(np.float32), np.eye(4))
    return folder


def config_of(data: Path, size: int, batch: int, steps: int, device: str) -> Config:
    return parse(
        {
            "data": {"source": str(data), "shape": [size] * 3, "holdout": 0.0},
            "gan": {"critic_steps": 1},
            "train": {"batch_size": batch, "steps": steps, "log_every": 1, "device": device},
        }
    )


def compare(config: Config, folder: Path, rounds: int) -> dict[str, Any]:
    """Prediction and training take turns, so that a disturbance meets both."""
    folder.mkdir()
    predicted, seen, loads = [], [], []
    for index in range(rounds):
        loads.append(os.getloadavg()[0])
        predicted.append(predict(config, measure(config)))
        seen.append(train(config, folder / str(index)))
    on_gpu = config.train.device != "cpu"
    steps = [p.step_seconds for p in predicted]
    taken = [s["step_seconds"] for s in seen]
    bytes_of = [p.device_bytes if on_gpu else p.host_bytes for p in predicted]
    held = [s["device_bytes"] if on_gpu else s["host_bytes"] for s in seen]
    row = {
        "what": f"{config.data.shape[0]}^3 batch {config.train.batch_size}",
        "seconds predicted": statistics.median(steps),
        "seconds measured": statistics.median(taken),
        "bytes predicted": max(bytes_of),
        "bytes measured": max(held),
        "every round": {"predicted": steps, "measured": taken, "bytes": [bytes_of, held]},
        "load": loads,
    }
    row["time error"] = row["seconds predicted"] / row["seconds measured"] - 1.0
    row["memory error"] = row["bytes predicted"] / row["bytes measured"] - 1.0
    row["within goals"] = (
        abs(row["time error"]) <= TIME_GOAL and abs(row["memory error"]) <= MEMORY_GOAL
    )
    return row


def train(config: Config, folder: Path) -> dict[str, float]:
    """One training by the command line: a step's median seconds, and its peaks."""
    folder.mkdir()
    (folder / "config.yaml").write_text(configuration.dump(config))
    command = [sys.executable, "-c", TRAIN, "train", "--config", "config.yaml", "--out", "runs"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    lines = next(folder.glob("runs/*/metrics.jsonl")).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rates = [row["volumes_per_second"] for row in rows if "volumes_per_second" in row][WARM:]
    reals = config.train.batch_size * config.gan.critic_steps
    return {
        "step_seconds": statistics.median(reals / rate for rate in rates),
        "host_bytes": int((folder / "peak").read_text()),
        "device_bytes": max(row.get("memory", 0) for row in rows),
    }


def line(row: dict[str, Any]) -> str:
    return (
        f"{row['what']:<16}{1e3 * row['seconds predicted']:9.1f} ms predicted"
        f"{1e3 * row['seconds measured']:9.1f} measured ({row['time error']:+.0%})"
        f"{row['bytes predicted'] / 1e6:9.0f} MB predicted{row['bytes measured'] / 1e6:7.0f} "
        f"measured ({row['memory error']:+.1%})   load {max(row['load']):.1f}"
    )


def device_name(device: str) -> str:
    if device == "cpu":
        capability = torch.backends.cpu.get_cpu_capability().lower().replace(" ", "-")
        return f"cpu-{capability}"
    return torch.cuda.get_device_name().lower().replace(" ", "-")


if __name__ == "__main__":
    main()
