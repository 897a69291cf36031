"""From items, or an archive, to a Dataset: who is in it, in which classes, prepared how."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastgan.data.bundled import Archive
from fastgan.data.cache import Prepared, cached, dequantise, quantise
from fastgan.data.columns import MISSING
from fastgan.data.dataset import Dataset
from fastgan.data.geometry import Orientation
from fastgan.data.guess import doubts, refuse_labels
from fastgan.data.level import SHARE
from fastgan.data.manifest import Item
from fastgan.data.normalise import Normalisation, intensity_range, normalise, on_grid
from fastgan.data.resample import crop_or_pad, resample
from fastgan.data.splits import split_items
from fastgan.data.volume import Source, Volume, content_digest, read_spacing, read_volume
from fastgan.errors import ConfigError, CorruptFile

if TYPE_CHECKING:
    from fastgan.config import DataConfig

__all__ = [
    "SPACING_TOLERANCE",
    "Split",
    "classes_of",
    "common_spacing",
    "drawing",
    "of_archive",
    "of_files",
    "positions",
]

Split = Literal["train", "holdout"]
Triple = tuple[float, float, float]
COPIED = 1 << 30
"""Bytes of prepared volumes kept in memory, where nobody can change them; more are mapped."""
SPACING_TOLERANCE = 0.01  # relative; files written by one scanner differ in the last digits


def classes_of(items: Sequence[Item], config: DataConfig) -> tuple[str, ...]:
    """Names of the classes in the order of the labels; () of an unconditional run.

    Raises:
        ConfigError: an item without a class, a class named like a missing value, or only one.
    """
    if not config.conditional:
        return ()
    unlabelled = [item for item in items if item.label is None]
    if unlabelled:
        raise ConfigError(
            f"data.conditional: {len(unlabelled)} of {len(items)} volumes have no "
            f"label, first {unlabelled[0].path}"
        )
    names = {item.label for item in items if item.label is not None}
    empty = Counter(item.label for item in items if (item.label or "").lower() in MISSING)
    if empty:
        label, count = empty.most_common(1)[0]
        raise ConfigError(
            f"data.conditional: the label {label!r} of {count} volumes reads like a missing value; "
            "leave these rows out, or give it a name"
        )
    if len(names) < 2:
        raise ConfigError(f"data.conditional: two classes are needed, found {sorted(names)}")
    # Numbers in the order of numbers: "10" comes after "9".
    return tuple(sorted(names, key=lambda n: (0, int(n), n) if n.isdecimal() else (1, 0, n)))


def positions(items: Sequence[Item], config: DataConfig, split: Split) -> list[int]:
    """Which items belong to a split; one that holds nobody is a ConfigError."""
    filled = split_items(items, config.holdout)
    chosen = [i for i, item in enumerate(filled) if item.split == split]
    if not chosen:
        needed = (
            "to train on"
            if split == "train"
            else "held out, and an audit compares with patients never trained on: train anew with "
            "data.holdout: 0.2 and two subjects or more"
        )
        raise ConfigError(f"data.holdout: {config.holdout} leaves nobody {needed}")
    return chosen


def common_spacing(items: Sequence[Item]) -> Triple:
    """The spacing in mm of every file, read from its header; different ones are a ConfigError."""
    found = {item.path: read_spacing(item.path) for item in items}
    first_path, first = next(iter(found.items()))
    for path, spacing in found.items():
        if not np.allclose(spacing, first, rtol=SPACING_TOLERANCE):
            raise ConfigError(
                f"data.spacing: files differ: {first_path} has {_shown(first)} mm, {path} has "
                f"{_shown(spacing)}; set data.spacing to resample"
            )
    return first


def drawing(config: DataConfig, split: Split) -> dict[str, Any]:
    """Keywords of Dataset that say how volumes are drawn."""
    train = split == "train"
    return {
        "patch": config.sampling == "patch",
        "balanced": train and config.sampler == "balanced",
        "classic": config.classic if train else (),
    }


def of_archive(archive: Archive, config: DataConfig, split: Split) -> Dataset:
    """One split of an archive, whose arrays are taken as they are."""
    items = split_items(archive.items, config.holdout)
    classes = classes_of(items, config)
    chosen = positions(items, config, split)
    arrays = archive.arrays
    if arrays.shape[1:] != tuple(config.shape) and config.sampling == "whole":
        cropped = [crop_or_pad(a, np.eye(4), config.shape, a.min())[0] for a in arrays[chosen]]
        arrays = np.stack(cropped)
    else:
        arrays = arrays[chosen]
    spacing = config.spacing or archive.spacing
    if not np.allclose(spacing, archive.spacing, rtol=SPACING_TOLERANCE):
        raise ConfigError(
            f"data.spacing: {spacing} is asked, {config.source} has "
            f"{archive.spacing} and is not resampled"
        )
    picked = [items[i] for i in chosen]
    modality = picked[0].modality or config.modality
    record: Normalisation
    if archive.low is not None and archive.high is not None and config.window is None:
        record = {"modality": modality, "low": archive.low, "high": archive.high, "method": "full"}
        if modality == "mask":
            record["share"] = SHARE
    else:
        # Over all volumes: a range of the training volumes alone would differ between the splits.
        every = archive.arrays.astype(np.float32).reshape(len(archive.arrays), -1, 1)
        source = Source(
            config.source,
            np.eye(4),
            Orientation((0, 1, 2), (False,) * 3),
            (),
            archive.arrays.dtype.name,
            1.0,
            0.0,
            archive.digest,
        )
        record = intensity_range(Volume(every, np.eye(4), source), modality, config.window)
    stored: list[np.ndarray] = list(arrays)
    bytes_of_all = arrays.dtype == np.uint8 and record["method"] == "full"
    # Bytes over their whole range stay as they are, at half the memory; levels need finer steps.
    if modality == "mask" or not bytes_of_all:
        values = (dequantise(a) if bytes_of_all else normalise(a, record) for a in arrays)
        stored = [quantise(on_grid(v, record, spacing)) for v in values]
    return Dataset(
        [volume[None] for volume in stored],
        picked,
        shape=config.shape,
        spacing=spacing,
        classes=classes,
        normalisation=record,
        fingerprint=_fingerprint([archive.digest] * len(picked), picked, config),
        held_out=[item.subject for item in items if item.split != split],
        **drawing(config, split),
    )


def of_files(
    items: Sequence[Item], config: DataConfig, split: Split, folder: Path | None
) -> Dataset:
    """One split of volumes in files, each prepared, or taken from the cache in `folder`."""
    items = split_items(items, config.holdout)
    classes = classes_of(items, config)
    spacing = config.spacing or common_spacing(items)
    picked = [items[i] for i in positions(items, config, split)]
    prepared, digests, held = [], [], 0
    for item in picked:
        modality = item.modality or config.modality
        digest = content_digest(item.path)
        settings = _settings(config) | {"spacing": spacing, "modality": modality}
        if config.sampling == "patch":
            # The whole volume is kept, so that another patch shape needs no second preparation.
            del settings["shape"]
        prepare = partial(_prepare, item, modality, spacing, config, digest)
        one = cached(folder, digest, settings, prepare, copy=held < COPIED)
        held += one.array.nbytes
        prepared.append(one)
        digests.append(digest)
    _require_one_modality(picked, config)
    records = [p.record for p in prepared]
    common: Normalisation = {
        **records[0],
        "clipped": float(np.mean([r.get("clipped", 0.0) for r in records])),
        "padding": float(np.mean([r.get("padding", 0.0) for r in records])),
        "per_volume": len({(r["low"], r["high"]) for r in records}) > 1,
        "low": float(np.median([r["low"] for r in records])),
        "high": float(np.median([r["high"] for r in records])),
    }
    common.pop("warnings", None)
    return Dataset(
        [p.array for p in prepared],
        picked,
        shape=config.shape,
        spacing=spacing,
        classes=classes,
        normalisation=common,
        fingerprint=_fingerprint(digests, picked, config),
        held_out=[item.subject for item in items if item.split != split],
        records=records,
        affines=[p.affine for p in prepared],
        **drawing(config, split),
    )


def _prepare(
    item: Item, modality: str, spacing: Triple, config: DataConfig, digest: str
) -> Prepared:
    volume = read_volume(item.path)
    # Between its digest and now the file may have become another, which would be kept as this one.
    if content_digest(item.path) != digest:
        raise CorruptFile(f"{item.path}: changed while it was read")
    if config.window is None:
        refuse_labels(volume, modality)
    record = intensity_range(volume, modality, config.window)
    record["warnings"] = [*volume.source.warnings, *doubts(volume, modality)]
    # Normalised before resampling: padding of -3024 HU must not bleed into the patient.
    array, affine = resample(normalise(volume.array, record), volume.affine, spacing)
    if config.sampling == "whole":
        array, affine = crop_or_pad(array, affine, config.shape, -1.0)
    return Prepared(quantise(on_grid(array, record, spacing))[None], affine, record)


def _require_one_modality(items: Sequence[Item], config: DataConfig) -> None:
    counts = Counter(item.modality or config.modality for item in items)
    if len(counts) > 1:
        rare = min(counts, key=lambda name: counts[name])
        example = next(i.path for i in items if (i.modality or config.modality) == rare)
        raise ConfigError(
            f"data.modality: one network, one modality; found {dict(counts)}, {rare} for example "
            f"{example}; leave those out by data.exclude"
        )


def _fingerprint(digests: Sequence[str], items: Sequence[Item], config: DataConfig) -> str:
    facts = [[d, i.label, i.subject, i.split] for d, i in zip(digests, items, strict=True)]
    return hashlib.sha256(json.dumps([facts, _settings(config)]).encode()).hexdigest()


def _settings(config: DataConfig) -> dict[str, object]:
    return {
        "shape": config.shape,
        "spacing": config.spacing,
        "sampling": config.sampling,
        "window": config.window,
    }


def _shown(spacing: Triple) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing)
