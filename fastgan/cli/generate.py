"""`fastgan generate`: write volumes from a run's averaged generator."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from fastgan.train.checkpoint import Checkpoint

__all__ = ["add_arguments", "generate", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="new or empty folder"
    )
    parser.add_argument("--count", type=int, required=True, help="volumes to write")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="default: the newest")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--label", metavar="NAME", help="class of every volume")
    chosen.add_argument(
        "--labels",
        choices=("prior", "equal"),
        default="prior",
        help="classes as often as in the training data (default), or equally often",
    )
    parser.add_argument("--seed", type=int, default=0, help="of latents and classes (default: 0)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def run(options: argparse.Namespace) -> int:
    """Generate, print where to, return 0."""
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.synthetic import checkpoint_asked
    from fastgan.train.run_folder import RunFolder

    keep_freed_memory()
    folder = RunFolder(options.run)
    found = checkpoint_asked(folder, options.checkpoint)
    written = generate(
        folder,
        found,
        options.out,
        count=options.count,
        labels=options.label or options.labels,
        one_class=options.label is not None,
        seed=options.seed,
        device=options.device,
    )
    print(written)
    return 0


def generate(
    folder: Any,
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
        folder: the `RunFolder`.
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
    import torch

    from fastgan.data import save_volume
    from fastgan.data.normalise import denormalise
    from fastgan.random import Draws
    from fastgan.runs.synthetic import description, make_empty, origin, write_manifest
    from fastgan.train import load_generator, require_generator
    from fastgan.train.build import variant_of
    from fastgan.train.device import resolve

    if count < 1 or seed < 0:
        raise ConfigError(f"generate: count must be >= 1 and seed >= 0, got {count} and {seed}")
    require_generator(folder)
    config, data = folder.config(), folder.data()
    classes = list(data["classes"]) if config.data.conditional else []
    draws = Draws(seed)
    chosen = _classes(labels, one_class, classes, data["prior"], count, draws.numpy(0, "classes"))
    variant: Any = variant_of(config, data)
    load_generator(variant, found)
    make_empty(out)
    variant.to(resolve(device))
    affine = _affine(data["spacing"], data["shape"])
    rows = []
    for i in range(count):
        label = None if chosen is None else chosen[i]
        with torch.no_grad():
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
    import difflib

    import numpy as np

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


def _affine(spacing: list[float], shape: list[int]) -> np.ndarray:
    """Axes right, front, head at the training spacing; the volume's centre is the origin."""
    import numpy as np

    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -0.5 * np.asarray(spacing) * (np.asarray(shape) - 1)
    return affine


def _modality(data: Mapping[str, Any], default: str) -> str:
    known: list[str] = data.get("modalities", [])
    return known[0] if len(known) == 1 else default
