"""Volumes of a run's averaged generator, as files with their origin and a manifest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastgan.data import save_volume
from fastgan.data.normalise import denormalise
from fastgan.errors import ConfigError
from fastgan.random import Draws
from fastgan.runs.synthetic import description, make_empty, origin, write_manifest
from fastgan.train import load_generator
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve
from fastgan.train.load import require_generator
from fastgan.train.run_folder import RunFolder

__all__ = ["generate"]


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
    if count < 1 or seed < 0:
        raise ConfigError(f"generate: count must be >= 1 and seed >= 0, got {count} and {seed}")
    require_generator(folder)
    config, data = folder.config(), folder.data()
    classes = list(data["classes"]) if config.data.conditional else []
    draws = Draws(seed)
    chosen = _classes(labels, one_class, classes, data["prior"], count, draws.numpy(0, "classes"))
    variant = load_generator(folder, found)
    place = resolve(device)
    make_empty(out)
    variant.to(place)
    affine = _affine(data["spacing"], data["shape"])
    rows = []
    for i in range(count):
        label = None if chosen is None else chosen[i]
        volume = variant.sample(1, label, draws.numpy(i, "generate"))[0].float().cpu().numpy()
        name = f"volume-{i:05d}.nii.gz"
        known = "" if label is None else classes[label]
        provenance = origin(found) | {"seed": seed, "index": i, "label": known}
        save_volume(
            out / name,
            denormalise(volume, data["normalisation"]),
            affine,
            description=description(found),
            provenance=provenance,
        )
        rows.append(
            {
                "path": name,
                "label": known,
                "subject": f"synthetic-{found.hash[:8]}-{seed}-{i:05d}",
                "split": "train",
                "modality": _modality(data, config.data.modality),
            }
        )
    return write_manifest(out, rows)


def _classes(
    labels: str,
    one_class: bool,
    classes: list[str],
    prior: list[float],
    count: int,
    rng: np.random.Generator,
) -> list[int] | None:
    """Class of each volume, or None for an unconditional run."""
    if one_class:
        if labels not in classes:
            near = difflib.get_close_matches(labels, classes, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"classes: {', '.join(classes) or 'none'}"
            )
            raise ConfigError(f"--label: the run knows no class {labels!r}; {hint}")
        return [classes.index(labels)] * count
    if not classes:
        return None
    if labels == "equal":
        return [i % len(classes) for i in range(count)]
    shares = np.asarray(prior) / np.sum(prior)
    return [int(label) for label in rng.choice(len(classes), count, p=shares)]


def _affine(spacing: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Axes right, front, head at the training spacing; the volume's centre is the origin."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -0.5 * np.asarray(spacing) * (np.asarray(shape) - 1)
    return affine


def _modality(data: Mapping[str, Any], default: str) -> str:
    known: list[str] = data.get("modalities", [])
    return known[0] if len(known) == 1 else default
