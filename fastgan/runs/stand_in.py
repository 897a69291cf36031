"""Data of a run's shape and number, without the hours that preparing them all may take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastgan.config import Config, DataConfig
from fastgan.data import Dataset, Item, Unpaired, open_dataset
from fastgan.data.assembly import classes_of, common_spacing, drawing, of_files, positions
from fastgan.data.bundled import LIDC
from fastgan.data.listing import Selection
from fastgan.data.sources import find_items, is_archive
from fastgan.data.splits import split_items

__all__ = ["StandIn", "is_whole", "stand_in"]


@dataclass(frozen=True)
class StandIn:
    """A data set to measure on, and what is known of the real one."""

    dataset: Any
    """A `Dataset`, or of a cyclegan an `Unpaired`."""
    stored_bytes: int
    """One prepared volume, the largest."""
    volumes: int
    """Volumes trained on, of all domains."""
    heldout: int
    """Volumes held out, likewise; of an archive by the share asked for."""
    prepared: bool
    """Whether the data are files, prepared one by one and kept in a cache."""


def stand_in(config: Config) -> StandIn:
    """What a run would draw from: archives as they are, of files the largest in place of each.

    Only one file of a folder is read, so nothing is said of the others' soundness.

    Raises:
        ConfigError, BadFile and its kinds: as `fastgan.train.build.data_of`.
    """
    a = _domain(config.data)
    # A cyclegan without its other domain is refused, in its own words, where the nets are built.
    if not config.translates or config.data.source_b is None:
        return a
    own: dict[str, Any] = {
        "source": config.data.source_b,
        "modality": config.data.modality_b,
        "window": config.data.window_b,
    }
    b = _domain(config.data.model_copy(update=own))
    return StandIn(
        Unpaired(a.dataset, b.dataset),
        max(a.stored_bytes, b.stored_bytes),
        a.volumes + b.volumes,
        a.heldout + b.heldout,
        a.prepared or b.prepared,
    )


def is_whole(source: str) -> bool:
    """Whether a source is one archive, which is read as a whole."""
    return source == LIDC or is_archive(Path(source))


def _domain(data: DataConfig) -> StandIn:
    if is_whole(data.source):
        dataset = open_dataset(data, "train")
        stored = dataset.stored[0].nbytes
        heldout = round(len(dataset) * data.holdout / (1.0 - data.holdout))
        return StandIn(dataset, stored, len(dataset), heldout, prepared=False)
    listed = find_items(Path(data.source), labels=data.conditional, selection=Selection.of(data))
    items = split_items(listed, data.holdout)
    train = [items[i] for i in positions(items, data, "train")]
    spacing = data.spacing or common_spacing(items)
    alone: dict[str, Any] = {"conditional": False, "sampler": "natural", "classic": ()}
    largest = replace(max(train, key=_file_size), split="train")
    one = of_files([largest], data.model_copy(update=alone), "train", None)
    dataset = Dataset(
        [one.stored[0]] * len(train),
        train,
        shape=one.shape,
        spacing=spacing,
        classes=classes_of(items, data),
        normalisation=one.normalisation,
        fingerprint=one.fingerprint,
        **drawing(data, "train"),
    )
    heldout = len(items) - len(train)
    return StandIn(dataset, one.stored[0].nbytes, len(train), heldout, prepared=True)


def _file_size(item: Item) -> int:
    """Bytes on disk, of a series those of its files; 0 where there is no file of that name."""
    path = Path(item.path)
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
