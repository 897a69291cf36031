"""Volumes of a run's averaged generator, as files with their origin, manifest and passport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fastgan.durable import put_file
from fastgan.guarded import typed
from fastgan.nn.choices import check_choice
from fastgan.runs.layouts import LAYOUTS, Drawn
from fastgan.runs.load import Generator
from fastgan.runs.passport import here, write_passport
from fastgan.runs.synthetic import MANIFEST, description, make_empty, manifest_of, origin
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.ranks import Ranks
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
    ranks: Ranks | None = None,
) -> Path:
    """Write `count` volumes, their passport and, last, manifest.csv, which `train` reads.

    Volume i is a function of (checkpoint, seed, i) and its class alone. Each file says in its
    header that it is synthetic, and in an extension where it comes from. The passport is signed
    where the run folder holds the run's private key. Of several ranks each draws and writes its
    share, and the first writes what is said of them.

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
        ranks: processes that share the work, on the same kind of machine; None: this one alone.

    Returns:
        Path of the manifest.

    Raises:
        ConfigError: count, seed, class or layout that cannot be; a run that translates.
        BadFile: `out` holds something, or cannot be written.
        StateError: the checkpoint is not of the run's architecture.
        RankError: ranks with other files, settings or machines, or one that is lost.
    """
    ranks = ranks or Ranks()
    game = Generator(folder, found, ranks.device(device))
    check_choice("--format", layout, LAYOUTS)
    LAYOUTS[layout].refuse(game.modality, game.channels)
    equal = not one_class and labels == "equal"
    chosen = game.labels(count, labels if one_class else None, seed, equal=equal)
    sign(folder.path, b"")  # a key that cannot be used is found before the work
    ranks.agree(
        {
            "checkpoint": found.hash,
            **{"count": count, "labels": labels, "seed": seed, "format": layout},
            **here(game.device).model_dump(),
        }
    )
    ranks.first_does("the folder", lambda: make_empty(out))
    layout_of = LAYOUTS[layout]
    names = [
        layout_of.write(out, drawn(game, found, i, chosen[i], seed))
        for i in range(ranks.index, count, ranks.count)
    ]
    shares = ranks.notes("its volumes", names)
    if ranks.first:
        paths = [shares[i % ranks.count][i // ranks.count] for i in range(count)]
        made = [_known(game, found, i, label, seed) for i, label in enumerate(chosen)]
        layout_of.finish(out, made)
        _describe(out, folder, found, layout, game.device, dict(zip(paths, made, strict=True)))
    return out / MANIFEST


def _describe(
    out: Path,
    folder: RunFolder,
    found: Checkpoint,
    layout: str,
    device: torch.device,
    made: Mapping[str, Drawn],
) -> None:
    """Write the passport of volumes, by path, and the manifest."""
    table = manifest_of(
        {
            "path": path,
            "label": one.label,
            "subject": one.subject,
            "split": "train",
            "modality": one.modality,
        }
        for path, one in made.items()
    )
    write_passport(
        out,
        folder,
        made="generate",
        layout=layout,
        checkpoint=found.hash,
        step=found.step,
        device=device,
        volumes=[
            {"path": path, "label": one.label, "seed": one.provenance["seed"], "index": one.index}
            for path, one in made.items()
        ],
        further={MANIFEST: table},
    )
    # Last: a program that finds it finds the rest.
    put_file(out / MANIFEST, [table])


def drawn(game: Generator, found: Checkpoint, i: int, label: int | None, seed: int) -> Drawn:
    """Volume `i` of a seed, and all that its file says of it."""
    return replace(_known(game, found, i, label, seed), array=game.volume(i, label, seed))


def _known(game: Generator, found: Checkpoint, i: int, label: int | None, seed: int) -> Drawn:
    """What is said of a volume that is not drawn."""
    known = "" if label is None else game.classes[label]
    return Drawn(
        array=np.empty(0),
        affine=game.affine,
        modality=game.modality,
        index=i,
        label=known,
        subject=f"synthetic-{found.hash[:8]}-{seed}-{i:05d}",
        description=description(found),
        provenance=origin(found) | {"seed": seed, "index": i, "label": known},
        suffix=game.suffix,
    )
