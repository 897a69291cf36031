"""The whole way on the bundled nodules, from training to a comparison with unseen patients."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from fastgan.audit.quality.fidelity import LIMITS, Masks, Row, compare
from fastgan.config import Config, load, parse
from fastgan.data import Dataset, open_dataset, read_volume
from fastgan.errors import StateError
from fastgan.measures.shape import shape_statistics, soft_ellipsoids
from fastgan.runs.generate import generate
from fastgan.train import RunFolder, checkpoint, describe, fit
from fastgan.train.build import variant_of
from fastgan.train.load import require_generator

__all__ = ["Demo", "demo", "judge"]

CAPTION = (
    "Nodule shapes, not CT: radiologists' consensus masks (LIDC-IDRI, CC BY 3.0); "
    "malignancy is their opinion, not pathology. Research use."
)
CONTROLS_SEED = 0


@dataclass(frozen=True)
class Demo:
    """What a demo leaves: its run, the manifest of its volumes, the comparison, the picture."""

    run: Path
    manifest: Path
    comparison: Path
    montage: Path


def demo(
    out: Path,
    example: str,
    *,
    count: int,
    steps: int | None = None,
    seed: int = 0,
    command: Sequence[str] | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Train (or go on training), generate, compare and draw under `out`.

    Args:
        out: folder for everything it makes.
        example: name of a configuration in `fastgan.examples`.
        count: volumes to generate.
        steps: instead of the configuration's.
        seed: of the training.
        command: what to record as the command line.
        report: told when an unfinished run is gone on with.

    Raises:
        StateError: `out` holds a finished demo.
    """
    if (out / "volumes").exists():
        raise StateError(f"{out}: holds a finished demo; give another --out, or delete it")
    folder, train = _train(out, example, steps, seed, command, report)
    holdout = open_dataset(folder.config().data, "holdout")

    found = checkpoint.newest(folder.path)
    # Under its name only when complete; what an interrupted demo left is made again.
    partial = out / "volumes.partial"
    shutil.rmtree(partial, ignore_errors=True)
    generate(folder, found, partial, count=count, labels="equal")
    partial.rename(out / "volumes")
    manifest = out / "volumes" / "manifest.csv"
    generated = _read_masks(manifest, train.classes)
    rows, sets = judge(generated, train, holdout)
    made = Demo(folder.path, manifest, out / "comparison.txt", out / "montage.png")
    made.comparison.write_text(_table(rows, train.classes), encoding="utf-8")
    record = json.dumps(_record(rows, folder.config(), train.classes), indent=1)
    made.comparison.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    _draw(sets, train.classes, made.montage)
    return made


def _train(
    out: Path,
    example: str,
    steps: int | None,
    seed: int,
    command: Sequence[str] | None,
    report: Callable[[str], None],
) -> tuple[RunFolder, Dataset]:
    """The finished run of this output folder; an unfinished one is resumed."""
    with as_file(files("fastgan.examples") / example) as path:
        settings = load(path).model_dump(mode="json")
    settings["seed"] = seed
    if steps is not None:
        settings["train"]["steps"] = steps
    config = parse(settings, where="demo")
    train = open_dataset(config.data, "train")
    earlier = sorted((out / "runs").glob(f"*-{config.name}-seed{config.seed}"))
    resume = earlier[-1] if earlier else None
    if resume is not None:
        require_generator(RunFolder(resume))
        report(f"going on with {resume}")
    variant = variant_of(config, describe(train))
    folder = fit(variant, train, config, out=out / "runs", resume=resume, command=command)
    return folder, train


def _read_masks(manifest: Path, classes: tuple[str, ...]) -> Masks:
    """The generated volumes as a user would read them."""
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    values = np.stack([read_volume(manifest.parent / row["path"]).array for row in rows])
    labels = np.array([classes.index(row["label"]) for row in rows])
    return Masks(np.clip(values, 0.0, 1.0), labels)


def judge(generated: Masks, train: Dataset, holdout: Dataset) -> tuple[list[Row], dict[str, Masks]]:
    """Compare generated masks, and the two controls, with patients that were held out.

    Args:
        generated: in [0, 1], labelled by the position of their class.
        train: what the generator learned from.
        holdout: patients it never saw.

    Returns:
        Rows of the comparison, and the sets that the montage draws from.
    """
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
    values = np.stack([dataset.denormalise(dataset.volume(i)[0]) for i in range(len(dataset))])
    return Masks(values, np.asarray(dataset.labels))


def _record(rows: list[Row], config: Config, classes: tuple[str, ...]) -> dict[str, object]:
    """The comparison for programs, with what its figures depend on."""
    return {
        "name": config.name,
        "seed": config.seed,
        "steps": config.train.steps,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "classes": list(classes),
        "rows": {row.name: row.values for row in rows},
        "outside": {row.name: row.failed() for row in rows},
    }


def _table(rows: list[Row], classes: tuple[str, ...]) -> str:
    """The comparison as text: a line per set of masks, the limits, what failed."""

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

    rows: dict[str, np.ndarray] = {}
    for label, name in enumerate(classes):
        for source, masks in sets.items():
            rows[f"{name}\n{source}"] = masks.values[masks.labels == label][:12]
    draw_montage(rows, path, title="LIDC nodules, lit surfaces", caption=CAPTION)
