"""From a DataConfig to a Dataset: find the volumes, split the subjects, prepare, remember how."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.data.assembly import Split, of_archive, of_files
from fastgan.data.bundled import LIDC, read_archive, read_lidc
from fastgan.data.dataset import Dataset
from fastgan.data.listing import Listing, Selection, list_beside, list_folder, select
from fastgan.data.manifest import Item, read_dataset_json, read_manifest
from fastgan.errors import BadFile, ConfigError
from fastgan.guarded import typed

if TYPE_CHECKING:
    from fastgan.config import DataConfig

__all__ = ["find_items", "is_archive", "list_source", "open_dataset"]


@typed("the data")
def open_dataset(config: DataConfig, split: Split, *, cache_dir: Path | None = None) -> Dataset:
    """One split of the data a config names, prepared and normalised.

    Augmentation and balanced sampling act on the train split alone.

    Args:
        config: the data section of a run's config.
        split: "train", or "holdout": the subjects never trained on.
        cache_dir: where prepared volumes are kept if the config names no folder; with neither
            they stay in memory.

    Raises:
        BadFile and its kinds: a volume that cannot be used; none is ever skipped.
        ConfigError: labels, classes, spacings or shapes that do not fit what is asked.
    """
    if split not in ("train", "holdout"):
        raise ConfigError(f"split: must be 'train' or 'holdout', got {split!r}")
    if any(extent < 1 for extent in config.shape):
        raise ConfigError(f"data.shape: extents must be positive, got {config.shape}")
    if config.source == LIDC or is_archive(Path(config.source)):
        for key in ("suffix", "exclude", "volume", "subjects"):
            if getattr(config, key) != type(config).model_fields[key].default:
                raise ConfigError(
                    f"data.{key}: chooses among files, and {config.source} is one archive; leave "
                    "it out"
                )
    if config.source == LIDC:
        archive = read_lidc(config.shape, config.conditional)
        return of_archive(archive, config, split)
    path = Path(config.source)
    if is_archive(path):
        return of_archive(read_archive(path), config, split)
    items = find_items(path, labels=config.conditional, selection=Selection.of(config))
    return of_files(items, config, split, config.cache_dir or cache_dir)


def is_archive(path: Path) -> bool:
    """Whether a source is one .npz of many volumes."""
    return path.is_file() and path.name.lower().endswith(".npz")


@typed("the data")
def find_items(
    path: Path, *, labels: bool = False, selection: Selection | None = None
) -> list[Item]:
    """Items of a manifest.csv, a dataset.json or a folder (which may hold either).

    Raises:
        ConfigError: neither a file nor a folder.
        BadFile: a file of another kind, or unusable content.
    """
    return list_source(path, labels=labels, selection=selection).items


@typed("the data")
def list_source(path: Path, *, labels: bool = False, selection: Selection | None = None) -> Listing:
    """`find_items`, and what else lies there."""
    selection = selection or Selection()
    by = ("manifest.csv", "dataset.json")
    if selection.subjects == "folders" and (
        path.is_file() or any((path / name).exists() for name in by)
    ):
        raise ConfigError(
            f"data.subjects: folders name the subjects of a folder alone; {path} has a list of its "
            "volumes, so write them into a column subject of a manifest.csv"
        )
    if path.is_dir():
        for name in by:
            if (path / name).exists():
                listing = list_source(path / name, selection=selection)
                # What a selection leaves out is named all the same.
                every = listing.items if not listing.excluded else list_source(path / name).items
                return replace(listing, unread=list_beside(path, every, name))
        return list_folder(path, selection, labels_from_folders=labels)
    if not path.exists():
        near = difflib.get_close_matches(str(path), [LIDC], n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"data.source: {str(path)!r} is no bundled set, file or folder{hint}")
    if path.suffix.lower() in (".csv", ".tsv"):
        return select(read_manifest(path), selection, path.parent)
    if path.suffix.lower() == ".json":
        return select(read_dataset_json(path), selection, path.parent)
    raise BadFile(
        f"{path}: data.source: a folder, .csv, dataset.json or .npz is meant; of a single volume "
        "name its folder"
    )
