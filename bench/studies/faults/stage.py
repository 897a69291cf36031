"""What faults are put into: five games of a few hundred weights, their data, runs and sets."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.config import Config, parse
from fastgan.data import save_volume
from fastgan.runs.generate import generate
from fastgan.runs.load import Generator
from fastgan.train import RunFolder, checkpoint, fit
from fastgan.train.build import data_of, describe, variant_of
from fastgan.train.progress import Progress

STEPS = 4
GAMES: dict[str, dict[str, Any]] = {
    "gan": {"objective": "minimax", "penalty": "none"},
    "wgan": {"objective": "wgan", "penalty": "none", "weight_clip": 0.01},
    "wgan-gp": {"objective": "wgan-gp", "penalty": "wgan-gp"},
    "conditional": {"objective": "hinge", "penalty": "none"},
    "cyclegan": {"variant": "cyclegan", "pool_size": 3},
}


@dataclass
class Stage:
    """The folder of one study.

    Attributes:
        place: of everything.
    """

    place: Path

    @property
    def scans(self) -> Path:
        return self.place / "scans"

    def make_scans(self) -> None:
        """Six CT volumes of two classes, and three of a domain B."""
        rng = np.random.default_rng(0)
        for i in range(6):
            folder = self.scans / "ab"[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            values = rng.uniform(-1000.0, 400.0, (8, 8, 8)).astype(np.float32)
            save_volume(folder / f"v{i}.nii.gz", values, np.diag([2.0, 2, 2, 1]))
        (self.place / "other").mkdir()
        for i in range(3):
            values = rng.uniform(-1000.0, 400.0, (8, 8, 8)).astype(np.float32)
            save_volume(self.place / "other" / f"o{i}.nii.gz", values, np.diag([2.0, 2, 2, 1]))

    def config(self, game: str, steps: int = STEPS) -> Config:
        """Of a training of so many steps, saved after each."""
        data: dict[str, Any] = {
            "source": str(self.scans),
            "shape": [8, 8, 8],
            "modality": "ct",
            "holdout": 0.0,
            "conditional": game == "conditional",
        }
        model: dict[str, Any] = {
            "latent_dim": 2,
            "generator_channels": [4, 4],
            "critic_channels": [4, 4],
        }
        if game == "cyclegan":
            data |= {"source_b": str(self.place / "other"), "modality_b": "ct"}
            model = {
                "translator_channels": [4, 6],
                "translator_blocks": 1,
                "patch_critic_channels": [4, 6],
                "fold": [2, 2, 2],
            }
        gan = GAMES[game] | ({} if game == "cyclegan" else {"critic_steps": 1})
        train = {
            "steps": steps,
            "batch_size": 2,
            "device": "cpu",
            "deterministic": True,
            "checkpoint_every": 1,
            "keep_checkpoints": 3,
            "sample_every": 1000,
            "log_every": 1,
        }
        return parse({"name": game, "data": data, "model": model, "gan": gan, "train": train})

    def train(self, game: str, out: Path, steps: int = STEPS, resume: Path | None = None) -> Path:
        """Train, or go on, and return the run folder."""
        config = self.config(game, steps)
        dataset = data_of(config, "train", cache_dir=self.place / "cache")
        variant = variant_of(config, describe(dataset))
        quiet = Progress(steps, stream=io.StringIO())
        arguments: dict[str, Any] = {"out": out, "resume": resume, "progress": quiet}
        return fit(variant, dataset, config, command=["study"], **arguments).path

    def generate(self, run: Path, out: Path, layout: str = "nifti", count: int = 2) -> Path:
        """A set of a run."""
        folder = RunFolder(run)
        generate(folder, checkpoint.newest(run), out, count=count, device="cpu", layout=layout)
        return out


def state_of(run: Path) -> str:
    """A hash of the newest checkpoint's tensors and of what the metrics say but for the clock."""
    found = checkpoint.newest(run)
    digest = hashlib.sha256(f"{found.step} {found.counters}".encode())
    for part, tensors in sorted(found.parts.items()):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{part}/{name}".encode() + tensor.contiguous().numpy().tobytes())
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        kept = {
            k: v for k, v in row.items() if k not in ("volumes_per_second", "data_wait", "memory")
        }
        digest.update(json.dumps(kept, sort_keys=True).encode())
    return digest.hexdigest()


def drawn_from(run: Path) -> str:
    """A hash of a volume that a run's newest sound checkpoint generates, and of which that is."""
    folder = RunFolder(run)
    found = checkpoint.newest(run)
    folder.require_same(found)
    # An older checkpoint is taken aloud: what was skipped, and why, is told.
    if found.skipped:
        return f"older {found.step}"
    # Of these the volume is a function, and nothing else is read; the same is not drawn twice.
    known = f"{folder.config().model_dump_json()} {json.dumps(folder.data())} {found.hash}"
    if known not in _DRAWN:
        game = Generator(folder, found, "cpu")
        label = 0 if game.classes else None
        digest = hashlib.sha256(game.volume(0, label, 7).tobytes() + game.affine.tobytes())
        _DRAWN[known] = digest.hexdigest()
    return _DRAWN[known]


_DRAWN: dict[str, str] = {}


def fresh(source: Path, target: Path) -> Path:
    """A copy, in place of whatever was there."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))
