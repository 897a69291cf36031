"""Volumes in and out, and the data sets made of them; needs torch and NumPy alone.

Functions named like their module stay there: `inspect.inspect`, `augment.augment`,
`normalise.normalise` and `resample.resample`.
"""

from __future__ import annotations

from fastgan.data.dataset import Batch, Dataset
from fastgan.data.listing import scan_folder
from fastgan.data.manifest import Item, read_manifest
from fastgan.data.sources import open_dataset
from fastgan.data.splits import holdout_subjects
from fastgan.data.unpaired import Unpaired, UnpairedBatch, open_unpaired
from fastgan.data.volume import Source, Volume, read_volume, restore
from fastgan.data.writer import save_volume

__all__ = [
    "Batch",
    "Dataset",
    "Item",
    "Source",
    "Unpaired",
    "UnpairedBatch",
    "Volume",
    "holdout_subjects",
    "open_dataset",
    "open_unpaired",
    "read_manifest",
    "read_volume",
    "restore",
    "save_volume",
    "scan_folder",
]
