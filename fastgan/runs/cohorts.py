"""The cohorts of an audit are made of data sets and of folders of generated volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastgan.arrays import Floats, Integers, Texts
from fastgan.audit.evidence import Cohort
from fastgan.data import Dataset, read_volume
from fastgan.data.manifest import Item
from fastgan.data.normalise import denormalise, normalise, record_like
from fastgan.data.sources import find_items
from fastgan.errors import AuditError
from fastgan.runs.measured import Measurements

__all__ = ["ACQUISITION", "aligned_cohort", "as_files", "cohort_of", "generated_cohort"]

ACQUISITION = ("contrast_used", "slice_thickness", "pixel_spacing")
"""Attributes of bundled volumes that say how they were taken, not what they show."""
SPACING_TOLERANCE = 0.01  # relative, as in reading a data set


def cohort_of(dataset: Dataset, name: str, measured: Measurements | None = None) -> Cohort:
    """All volumes of one split, each at its centre, and what was measured on them.

    Raises:
        AuditError: more than one channel; a volume that was not measured.
    """
    if dataset.channels != 1:
        raise AuditError(f"audit: volumes of one channel are meant, got {dataset.channels}")
    values = np.empty((len(dataset), *dataset.shape), np.float32)
    for i in range(len(dataset)):
        values[i] = as_files(dataset.volume(i)[0], dataset)
    labels = dataset.labels if dataset.classes else None
    cohort = _cohort(name, values, dataset.items, labels, measured)
    if not dataset.normalisation.get("per_volume"):
        return cohort
    windows = [(record["low"], record["high"]) for record in dataset.records]
    return replace(cohort, windows=np.array(windows))


def generated_cohort(
    source: Path, like: Dataset, name: str = "generated", measured: Measurements | None = None
) -> Cohort:
    """Generated volumes of a folder or manifest, on the grid and in the units of a data set.

    Volumes are what `fastgan generate` writes, or anybody else: same shape, same spacing, the
    files' units. A class that the data set does not have is an error.

    Raises:
        AuditError: another shape, spacing or class, or no label where the data set has classes; a
            volume that was not measured.
        BadFile and its kinds: a file that cannot be read.
    """
    items = find_items(source, labels=bool(like.classes))
    values = np.empty((len(items), *like.shape), np.float32)
    for i, item in enumerate(items):
        volume = read_volume(item.path)
        if volume.array.shape != tuple(like.shape):
            raise AuditError(
                f"{item.path}: {volume.array.shape} voxels, the training volumes have {like.shape}"
            )
        if not np.allclose(volume.spacing, like.spacing, rtol=SPACING_TOLERANCE):
            raise AuditError(
                f"{item.path}: spacing {_mm(volume.spacing)}, the training volumes have "
                f"{_mm(like.spacing)}"
            )
        record = like.normalisation
        if record.get("per_volume"):
            record = record_like(volume, record)
        values[i] = normalise(volume.array, record)
    labels = _labels(items, like.classes) if like.classes else None
    return _cohort(name, values, items, labels, measured)


def aligned_cohort(source: Path, like: Dataset, sources: Cohort) -> Cohort:
    """Volumes of another domain of the same subjects, in the order of the sources.

    Args:
        source: folder or manifest; it may hold other subjects, too.
        like: a data set of that domain, for its grid and units.
        sources: whom the volumes are aligned to; the n-th volume of a subject to its n-th here.

    Raises:
        AuditError: as `generated_cohort`; a subject of whom there are more or fewer volumes.
    """
    made = generated_cohort(source, like, "truth")
    places = np.empty(len(sources), np.int64)
    for subject in np.unique(sources.subjects):
        ours, theirs = (np.flatnonzero(c.subjects == subject) for c in (sources, made))
        if len(ours) != len(theirs):
            raise AuditError(
                f"{source}: {len(theirs)} volumes of subject {subject}, of whom there are "
                f"{len(ours)} held out; give one of domain B for each of A"
            )
        places[ours] = theirs
    return made.subset(places)


def as_files(volumes: Floats, dataset: Dataset) -> Floats:
    """What a network sees or draws, any shape, as cohorts hold it: levels become masks again."""
    record = dataset.normalisation
    return normalise(denormalise(volumes, record), record) if "share" in record else volumes


def _cohort(
    name: str,
    values: Floats,
    items: Sequence[Item],
    labels: Integers | None,
    measured: Measurements | None,
) -> Cohort:
    columns = {key: _texts([getattr(i, key) for i in items]) for key in ("site", "scanner")}
    columns |= {key: _texts([i.attributes.get(key) for i in items]) for key in ACQUISITION}
    # Text, such as a name or a date, is of one volume each: no judgement can be made on it.
    further = {key for item in items for key, cell in item.columns.items() if cell.kind != "text"}
    for key in sorted(further - set(columns)):
        columns[key] = _texts([i.columns[key].value if key in i.columns else None for i in items])
    files = tuple(Path(item.path) for item in items)
    return Cohort(
        name,
        values,
        np.array([item.subject for item in items]),
        labels,
        {key: column for key, column in columns.items() if (column != "").any()},
        files if all(file.is_file() for file in files) else (),
        all(item.subject_named for item in items),
        traits={} if measured is None else measured.of(items),
    )


def _labels(items: Sequence[Item], classes: tuple[str, ...]) -> Integers:
    for item in items:
        if item.label not in classes:
            raise AuditError(
                f"{item.path}: label {item.label or 'missing'}, the training volumes have "
                f"{', '.join(classes)}"
            )
    return np.array([classes.index(str(item.label)) for item in items], np.int64)


def _texts(values: Sequence[object]) -> Texts:
    return np.array(["" if value is None else str(value) for value in values])


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{size:g}" for size in spacing) + " mm"
