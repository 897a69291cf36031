"""Volumes of a run's averaged generator, as files with their origin and a manifest."""

from __future__ import annotations

from pathlib import Path

from fastgan.data import save_volume
from fastgan.guarded import typed
from fastgan.runs.load import Generator
from fastgan.runs.synthetic import description, make_empty, origin, write_manifest
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.run_folder import RunFolder

__all__ = ["generate"]


@typed("generate")
def generate(
    folder: RunFolder,
    found: Checkpoint,
    out: Path,
    *,
    count: int,
    labels: str = "prior",
    one_class: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Write `count` volumes and, last, their manifest.csv, which `train` reads.

    Volume i is a function of (checkpoint, seed, i) and its class alone. Each file says in its
    header that it is synthetic, and in an extension where it comes from.

    Args:
        folder: the run.
        found: the checkpoint; its averaged weights are used.
        out: a folder that is absent or empty.
        count: >= 1.
        labels: `prior`, `equal`, or with `one_class` the name of a class.
        one_class: `labels` is a class.
        seed: >= 0.
        device: as in `train.device`.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: count, seed or class that cannot be; a run that translates.
        BadFile: `out` holds something, or cannot be written.
        StateError: the checkpoint is not of the run's architecture.
    """
    game = Generator(folder, found, device)
    equal = not one_class and labels == "equal"
    chosen = game.labels(count, labels if one_class else None, seed, equal=equal)
    make_empty(out)
    rows = []
    for i, label in enumerate(chosen):
        name = f"volume-{i:05d}.nii.gz"
        known = "" if label is None else game.classes[label]
        save_volume(
            out / name,
            game.volume(i, label, seed),
            game.affine,
            description=description(found),
            provenance=origin(found) | {"seed": seed, "index": i, "label": known},
        )
        rows.append(
            {
                "path": name,
                "label": known,
                "subject": f"synthetic-{found.hash[:8]}-{seed}-{i:05d}",
                "split": "train",
                "modality": game.modality,
            }
        )
    return write_manifest(out, rows)
