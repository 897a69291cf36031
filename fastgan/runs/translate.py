"""Volumes of one domain of a cyclegan brought to the other, as files on their sources' grids."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from fastgan.data import Item, read_volume, save_volume
from fastgan.data.manifest import stem_of, subject_of
from fastgan.data.sources import find_items
from fastgan.data.volume import SUFFIXES, content_digest, parted
from fastgan.durable import replace_file
from fastgan.errors import ConfigError
from fastgan.guarded import typed
from fastgan.measures.structure import ALARMS, same_contrast, structure
from fastgan.nn.choices import check_choice
from fastgan.pictures.sheets import write_sheet
from fastgan.runs.passport import write_passport
from fastgan.runs.synthetic import (
    MANIFEST,
    description,
    make_empty,
    manifest_of,
    origin,
    require_empty,
)
from fastgan.runs.whole_volume import Domain, Translated, check_volume, translate_volume
from fastgan.train import load_translator
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve
from fastgan.train.load import DIRECTIONS
from fastgan.train.run_folder import RunFolder
from fastgan.train.run_key import sign

__all__ = ["translate"]


@typed("translate")
def translate(
    folder: RunFolder,
    found: Checkpoint,
    source: Path,
    out: Path,
    *,
    direction: str,
    overlap: float = 0.5,
    pad: bool = False,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the translation of every volume, a picture of each, translate.json, passport, manifest.

    Every file is read and checked before the first is translated. A translation lies on its
    source's grid: shape, voxel order, affine, sform and qform are the source's, bit for bit; other
    fields of its header are not taken over, as they may name a person.

    Args:
        folder: the run of a cyclegan.
        found: the checkpoint; its averaged weights are used.
        source: a volume, a folder of them, or a manifest.csv; its rows' label, subject, site,
            scanner and split are passed on.
        out: a folder that is absent or empty.
        direction: `A_to_B` or `B_to_A`.
        overlap: share that neighbouring windows have in common.
        pad: mirror volumes smaller than the window at their edges.
        device: as in `train.device`.
        report: told a line about each volume, and every alarm.

    Returns:
        Path of the manifest, which is written last.

    Raises:
        ConfigError: no cyclegan, an unknown direction, a volume smaller than the window or of
            another modality, settings out of range.
        BadFile and its kinds: a volume that cannot be read or used, or `out` holds something.
        StateError: the checkpoint is not of the run's architecture.
    """
    check_choice("direction", direction, DIRECTIONS)
    data = folder.as_of(found).data()
    if "b" not in data:
        raise ConfigError(f"{folder.path}: no cyclegan: it was trained on one domain")
    ends = [Domain.of(data), Domain.of(data["b"])]
    here, there = ends if direction == "A_to_B" else ends[::-1]
    require_empty(out)
    items = _items(source, here.normalisation["modality"])
    for item in items:
        check_volume(read_volume(item.path), here, pad=pad)
    place = resolve(device)
    network = load_translator(folder, found, direction).to(place)
    alike = same_contrast(here.normalisation["modality"], there.normalisation["modality"])
    sign(folder.path, b"")  # a key that cannot be used is found before the work
    make_empty(out)
    rows, facts = [], []
    for item, name in zip(items, _names(items), strict=True):
        volume = read_volume(item.path)
        made = translate_volume(
            network, volume, here, there, overlap=overlap, pad=pad, device=place
        )
        digest = content_digest(item.path)
        how = {
            "direction": direction,
            "source_sha256": digest,
            "overlap": overlap,
            "resampled": made.resampled,
            "padded": made.padded,
        }
        save_volume(
            out / f"{name}.nii.gz",
            made.array,
            volume.source.affine,
            description=description(found),
            provenance=origin(found) | how,
            placement=volume.source.placement,
        )
        _draw(out / f"{name}.png", made, direction)
        values, alarms = _judge(made, alike)
        for line in _told(f"{name}.nii.gz", values, alarms):
            report(line)
        facts.append(
            {"path": f"{name}.nii.gz", "source": item.path}
            | how
            | {"normalisation": made.record, "warnings": list(volume.source.warnings)}
            | {"structure": values, "alarms": alarms}
        )
        rows.append(_row(f"{name}.nii.gz", item, there.normalisation["modality"]))
    alarmed = sum(bool(fact["alarms"]) for fact in facts)
    if alarmed:
        report(
            f"warning: {alarmed} of {len(facts)} translations raise an alarm; look at their "
            "pictures before anything is done with them"
        )
    whole = origin(found) | {"direction": direction, "alarmed": alarmed, "volumes": facts}
    replace_file(out / "translate.json", json.dumps(whole, indent=1).encode() + b"\n")
    table = manifest_of(rows)
    write_passport(
        out,
        folder,
        made="translate",
        layout="nifti",
        checkpoint=found.hash,
        step=found.step,
        device=place,
        volumes=[{"path": row["path"], "label": row["label"]} for row in rows],
        further={MANIFEST: table},
    )
    replace_file(out / MANIFEST, table)
    return out / MANIFEST


def _items(source: Path, modality: str) -> list[Item]:
    """The volumes asked for; none may be of another modality than the domain."""
    file, part = parted(source)
    if not file.exists():
        raise ConfigError(f"--in: {source}: no such file or folder")
    # A volume of a 4-D file, or one DICOM series of several, is asked for by name.
    if part is None and (file.is_dir() or not file.name.lower().endswith(SUFFIXES)):
        items = find_items(source)
    else:
        items = [Item(str(source), None, subject_of(file))]
    for item in items:
        if item.modality not in (None, modality):
            raise ConfigError(
                f"--in: {item.path} is {item.modality}, the translator was trained on {modality}"
            )
    return items


def _names(items: Sequence[Item]) -> list[str]:
    """A name of its own for each output: the file's stem, numbered where several share it."""
    stems = [stem_of(item.path) or "volume" for item in items]
    taken, used, names = Counter(stems), set(stems), []
    seen: Counter[str] = Counter()
    for stem in stems:
        name = stem
        while taken[stem] > 1 and (name in used):
            seen[stem] += 1
            name = f"{stem}-{seen[stem]}"
        used.add(name)
        names.append(name)
    return names


def _judge(made: Translated, same_contrast: bool) -> tuple[dict[str, float | None], list[str]]:
    """Values of the structure check, None where it says nothing, and sentences for its alarms."""
    pair = (torch.from_numpy(array)[None, None] for array in (made.source, made.result))
    found = structure(*pair, same_contrast=same_contrast)
    inverted, drifted = bool(found.inverted), bool(found.drifted)
    values = {k: float(v) for k, v in vars(found).items() if k not in ALARMS}
    alarms = []
    if inverted and values["order"] < 0.5:
        alarms.append(
            "contrast inverted: the air around the body is no darker than the body "
            f"(a body voxel is the brighter of two with probability {values['order']:.2f})"
        )
    elif inverted:
        alarms.append(
            "contrast inverted: within the body, source and translation correlate with "
            f"{values['correlation']:.2f}, and both domains show tissue alike"
        )
    if drifted:
        alarms.append(
            f"body changed: Dice of the body masks is {values['dice']:.2f}, "
            f"{values['lost']:.0%} of the body lost, {values['gained']:.0%} gained"
        )
    finite = {k: round(v, 4) if math.isfinite(v) else None for k, v in values.items()}
    return finite, alarms


def _told(name: str, values: dict[str, float | None], alarms: list[str]) -> list[str]:
    """What a person is told of one translation."""
    if values["dice"] is None:
        about = "no air visible around the body, so neither inversion nor drift can be seen"
    else:
        about = f"body Dice {values['dice']:.2f}, background order {values['order']:.2f}"
    return [f"{name}: {about}", *(f"warning: {name}: {alarm}" for alarm in alarms)]


def _draw(path: Path, made: Translated, direction: str) -> None:
    """Write source, translation and difference, each axial, coronal, sagittal.

    Head and front are up, the patient's right is right. The difference is half of translation
    minus source: grey is no change.
    """
    change = 0.5 * (made.result - made.source)
    # The slices' rows run down: from the head, and from the front.
    upright = [v.transpose(2, 1, 0)[None, ::-1, ::-1] for v in (made.source, made.result, change)]
    titles = ("source", "translation", "difference")
    caption = (
        f"{path.stem}, {direction.replace('_', ' ')}. Middle slices of source, translation, and "
        "half of translation minus source, where grey is no change. Head and front are up."
    )
    write_sheet(path, np.stack(upright), columns=3, caption=caption, titles=titles)


def _row(name: str, item: Item, modality: str) -> dict[str, str]:
    """The manifest's line: what was known of the source holds for its translation."""
    return {
        "path": name,
        "label": item.label or "",
        "subject": item.subject,
        "site": item.site or "",
        "scanner": item.scanner or "",
        "split": item.split or "",
        "modality": modality,
    }
