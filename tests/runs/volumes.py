"""Folders of tiny volumes, and a configuration that trains on them in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastgan.config import Config, parse
from fastgan.data import save_volume


def write_volumes(folder: Path, labels: bool, count: int = 8) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        values = rng.uniform(1.0, 900.0, (8, 8, 8)).astype(np.float32)
        save_volume(folder / f"sub-{i}.nii.gz", values, np.eye(4))
        split = "holdout" if i > count - 3 else "train"
        rows.append(f"sub-{i}.nii.gz,s{i},{'ill' if i % 2 else 'well'},{split},mr\n")
    if labels:
        (folder / "manifest.csv").write_text("path,subject,label,split,modality\n" + "".join(rows))
    return folder


def tiny(source: Path, conditional: bool) -> Config:
    return parse(
        {
            "data": {"source": str(source), "shape": [8, 8, 8], "conditional": conditional},
            "model": {"latent_dim": 4, "generator_channels": [4], "critic_channels": [4]},
            "gan": {"critic_steps": 1},
            "train": {"batch_size": 2, "device": "cpu"},
        }
    )
