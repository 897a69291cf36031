"""Volumes of a run's averaged generator, as files with their origin, manifest and passport."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fastgan.durable import put_file
from fastgan.guarded import typed
from fastgan.nn.choices import check_choice
from fastgan.runs.layouts import LAYOUTS, Drawn
from fastgan.runs.load import Generator
from fastgan.runs.passport import write_passport
from fastgan.runs.synthetic import MANIFEST, description, make_empty, manifest_of, origin
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.run_folder import RunFolder
from fastgan.train.run_key import sign

__all__ = ["drawn", "generate"]


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
    layout: str = "nifti",
) -> Path:
    """Write `count` volumes, their passport and, last, manifest.csv, which `train` reads.

    Volume i is a function of (checkpoint, seed, i) and its class alone. Each file says in its
    header that it is synthetic, and in an extension where it comes from. The passport is signed
    where the run folder holds the run's private key.

    Args:
        folder: the run.
        found: the checkpoint; its averaged weights are used.
        out: a folder that is absent or empty.
        count: >= 1.
        labels: `prior`, `equal`, or with `one_class` the name of a class.
        one_class: `labels` is a class.
        seed: >= 0.
        device: as in `train.device`.
        layout: nifti, bids or dicom; DICOM keeps CT in whole HU and MR in 32,767 steps.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: count, seed, class or layout that cannot be; a run that translates.
        BadFile: `out` holds something, or cannot be written.
        StateError: the checkpoint is not of the run's architecture.
    """
    game = Generator(folder, found, device)
    check_choice("--format", layout, LAYOUTS)
    LAYOUTS[layout].refuse(game.modality, game.channels)
    equal = not one_class and labels == "equal"
    chosen = game.labels(count, labels if one_class else None, seed, equal=equal)
    sign(folder.path, b"")  # a key that cannot be used is found before the work
    make_empty(out)
    made, rows, volumes = [], [], []
    for i, label in enumerate(chosen):
        one = drawn(game, found, i, label, seed)
        name = LAYOUTS[layout].write(out, one)
        rows.append(
            {
                "path": name,
                "label": one.label,
                "subject": one.subject,
                "split": "train",
                "modality": one.modality,
            }
        )
        volumes.append({"path": name, "label": one.label, "seed": seed, "index": i})
        made.append(replace(one, array=np.empty(0)))
    LAYOUTS[layout].finish(out, made)
    table = manifest_of(rows)
    write_passport(
        out,
        folder,
        made="generate",
        layout=layout,
        checkpoint=found.hash,
        step=found.step,
        device=game.device,
        volumes=volumes,
        further={MANIFEST: table},
    )
    # Last: a program that finds it finds the rest.
    put_file(out / MANIFEST, [table])
    return out / MANIFEST


def drawn(game: Generator, found: Checkpoint, i: int, label: int | None, seed: int) -> Drawn:
    """Volume `i` of a seed, and all that its file says of it."""
    known = "" if label is None else game.classes[label]
    return Drawn(
        array=game.volume(i, label, seed),
        affine=game.affine,
        modality=game.modality,
        index=i,
        label=known,
        subject=f"synthetic-{found.hash[:8]}-{seed}-{i:05d}",
        description=description(found),
        provenance=origin(found) | {"seed": seed, "index": i, "label": known},
        suffix=game.suffix,
    )
