"""Before the first step: every file a run or its audit will need, and what is odd about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.data.bundled import LIDC
from fastgan.data.dataset import Dataset
from fastgan.data.listing import Selection
from fastgan.data.sources import is_archive, list_source, open_dataset
from fastgan.data.summary import mixed_contrasts
from fastgan.data.unpaired import Unpaired, domain_b
from fastgan.errors import ConfigError

if TYPE_CHECKING:
    from fastgan.config import DataConfig

__all__ = ["check_data"]

SHOWN = 10  # files named of one warning


def check_data(
    config: DataConfig, training: Dataset | Unpaired, *, cache_dir: Path | None = None
) -> list[str]:
    """Read and prepare the held-out volumes too, so that no audit finds a damaged one days later.

    Args:
        config: of the run.
        training: its train split, which has been read.
        cache_dir: as for `open_dataset`; what is prepared here need not be again.

    Returns:
        Sentences for a person: what lies in the sources and is not read, contrasts that are
        mixed, and by file what looks wrong.

    Raises:
        BadFile and its kinds: a held-out volume that cannot be used.
    """
    if isinstance(training, Unpaired):
        return [
            *_check(config, training.a, cache_dir),
            *_check(domain_b(config), training.b, cache_dir),
        ]
    return _check(config, training, cache_dir)


def _check(config: DataConfig, training: Dataset, cache_dir: Path | None) -> list[str]:
    if config.source == LIDC or is_archive(Path(config.source)):
        return []  # one file, which has been read whole
    path = Path(config.source)
    listing = list_source(path, labels=config.conditional, selection=Selection.of(config))
    sentences = [f"{path}: {note}" for note in listing.notes()]
    mixed = mixed_contrasts(listing.items)
    sentences += [f"{path}: {mixed}"] if mixed else []
    read = [training]
    try:
        read.append(open_dataset(config, "holdout", cache_dir=cache_dir))
    except ConfigError as error:
        sentences.append(f"{path}: held-out volumes: {error}; an audit will not be possible")
    files: dict[str, list[str]] = {}
    for dataset in read:
        for item, record in zip(dataset.items, dataset.records, strict=True):
            for warning in record.get("warnings", ()):
                files.setdefault(warning, []).append(item.path)
    for warning, paths in files.items():
        sentences += [f"{path}: {warning}" for path in paths[:SHOWN]]
        if len(paths) > SHOWN:
            sentences.append(f"{path}: {len(paths) - SHOWN} more files: {warning}")
    return sentences
