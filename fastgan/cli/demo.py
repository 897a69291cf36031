"""`fastgan demo`: the whole way on the bundled nodules, from training to a judgement."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.errors import StateError

if TYPE_CHECKING:
    from fastgan.audit.quality.fidelity import Masks, Row
    from fastgan.data import Dataset
    from fastgan.train import RunFolder

__all__ = ["add_arguments", "run"]

SETTINGS = {"quick": "nodules_32.yaml", "quality": "nodules_48.yaml"}
CAPTION = (
    "Nodule shapes, not CT: radiologists' consensus masks (LIDC-IDRI, CC BY 3.0); "
    "malignancy is their opinion, not pathology. Research use."
)
CONTROLS_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder for everything it makes"
    )
    parser.add_argument(
        "--setting",
        choices=SETTINGS,
        default="quick",
        help="quick: 32^3 in minutes (default); quality: 48^3 in about an hour",
    )
    parser.add_argument("--count", type=int, default=500, help="volumes to generate")
    parser.add_argument("--steps", type=int, help="train for fewer steps than the setting says")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")


def run(options: argparse.Namespace) -> int:
    """Train (or go on training), generate, compare, draw; returns 0."""
    from fastgan.cli.generate import generate
    from fastgan.cli.process import keep_freed_memory
    from fastgan.data import open_dataset
    from fastgan.train import checkpoint

    keep_freed_memory()
    out: Path = options.out
    if (out / "volumes").exists():
        raise StateError(f"{out}: holds a finished demo; give another --out, or delete it")
    folder, train = _train(options)
    holdout = open_dataset(folder.config().data, "holdout")

    found = checkpoint.newest(folder.path)
    # Under its name only when complete; what an interrupted demo left is made again.
    partial = out / "volumes.partial"
    shutil.rmtree(partial, ignore_errors=True)
    generate(folder, found, partial, count=options.count, labels="equal")
    partial.rename(out / "volumes")
    manifest = out / "volumes" / "manifest.csv"
    generated = _read_masks(manifest, train.classes)
    rows, montage = _judge(generated, train, holdout)
    table = _table(rows, train.classes)
    (out / "comparison.txt").write_text(table, encoding="utf-8")
    _draw(montage, train.classes, out / "montage.png")

    print(f"\n{table}")
    print(f"run        {folder.path}\nvolumes    {manifest.parent}\nmanifest   {manifest}")
    print(f"comparison {out / 'comparison.txt'}\nmontage    {out / 'montage.png'}")
    return 0


def _train(options: argparse.Namespace) -> tuple[RunFolder, Dataset]:
    """The finished run of this output folder; an unfinished one is resumed."""
    from importlib.resources import as_file, files

    from fastgan import config as configuration
    from fastgan.data import open_dataset
    from fastgan.train import RunFolder, describe, fit, require_generator
    from fastgan.train.build import variant_of

    with as_file(files("fastgan.examples") / SETTINGS[options.setting]) as path:
        settings = configuration.load(path).model_dump(mode="json")
    settings["seed"] = options.seed
    if options.steps is not None:
        settings["train"]["steps"] = options.steps
    config = configuration.parse(settings, where="demo")
    train = open_dataset(config.data, "train")
    earlier = sorted((options.out / "runs").glob(f"*-{config.name}-seed{config.seed}"))
    resume = earlier[-1] if earlier else None
    if resume is not None:
        require_generator(RunFolder(resume))
        print(f"going on with {resume}", file=sys.stderr)
    folder = fit(
        variant_of(config, describe(train)),
        train,
        config,
        out=options.out / "runs",
        resume=resume,
        command=["fastgan", *sys.argv[1:]],
    )
    return RunFolder(folder.path), train


def _read_masks(manifest: Path, classes: tuple[str, ...]) -> Masks:
    """The generated volumes as a user would read them."""
    import numpy as np

    from fastgan.audit.quality.fidelity import Masks
    from fastgan.data import read_volume

    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    values = np.stack([read_volume(manifest.parent / row["path"]).array for row in rows])
    labels = np.array([classes.index(row["label"]) for row in rows])
    return Masks(np.clip(values, 0.0, 1.0), labels)


def _judge(
    generated: Masks, train: Dataset, holdout: Dataset
) -> tuple[list[Row], dict[str, Masks]]:
    """Rows of the comparison, and the sets that the montage draws from."""
    import numpy as np

    from fastgan.audit.quality.fidelity import Masks, compare
    from fastgan.measures.shape import shape_statistics, soft_ellipsoids

    known, unseen = _masks(train), _masks(holdout)
    rng = np.random.default_rng(CONTROLS_SEED)
    picked = rng.choice(len(known.labels), min(len(generated.labels), len(known.labels)), False)
    copies = Masks(known.values[picked], known.labels[picked])
    volume = shape_statistics(copies.values, train.spacing).volume
    ellipsoids = Masks(soft_ellipsoids(volume, train.shape, train.spacing, rng=rng), copies.labels)
    candidates = {"generated": generated, "copier": copies, "ellipsoids": ellipsoids}
    rows = compare(candidates, unseen, known, train.spacing)
    return rows, {"unseen patients": unseen, "generated": generated}


def _masks(dataset: Dataset) -> Masks:
    import numpy as np

    from fastgan.audit.quality.fidelity import Masks

    values = np.stack([dataset.denormalise(dataset.volume(i)[0]) for i in range(len(dataset))])
    return Masks(values, np.asarray(dataset.labels))


def _table(rows: list[Row], classes: tuple[str, ...]) -> str:
    """The comparison as text: a line per set of masks, the limits, what failed."""
    from fastgan.audit.quality.fidelity import LIMITS

    def cell(values: list[float]) -> str:
        return " / ".join(f"{value:.2f}" for value in values)

    def limit(low: float, high: float) -> str:
        return f"<= {high:g}" if low == 0 else f"{low:g} to {high:g}"

    names = ", ".join(classes)
    lines = [["against unseen patients", *LIMITS, "outside the limits"]]
    lines += [["limit", *(limit(*bounds) for bounds in LIMITS.values()), ""]]
    for row in rows:
        values = [cell(row.values[column]) for column in LIMITS]
        lines.append([row.name, *values, ", ".join(row.failed()) or "none"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return (
        f"{text}\n\nTwo values: {names}. KS: Kolmogorov-Smirnov distance of volume, surface / "
        "volume^(2/3) and\nelongation to the unseen patients. AUC gap: how well volume alone tells "
        "the classes apart, against\nunseen patients. Distance ratio: median distance to the "
        "nearest training mask over that of unseen\npatients; 0 is copying. Copier: training "
        f"masks. Ellipsoids: random ones of the right sizes.\n{CAPTION}\n"
    )


def _draw(sets: dict[str, Masks], classes: tuple[str, ...], path: Path) -> None:
    from fastgan.pictures.surfaces import draw_montage

    rows: dict[str, Any] = {}
    for label, name in enumerate(classes):
        for source, masks in sets.items():
            rows[f"{name}\n{source}"] = masks.values[masks.labels == label][:12]
    draw_montage(rows, path, title="LIDC nodules, lit surfaces", caption=CAPTION)
