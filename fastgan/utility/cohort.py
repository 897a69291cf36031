"""The patients of a study: their volumes as files hold them, their classes, and what is known."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastgan.arrays import Bools, Column, Floats, Integers, Texts
from fastgan.data import Dataset, Item, open_dataset
from fastgan.data.normalise import denormalise, normalise
from fastgan.errors import ConfigError
from fastgan.utility.settings import Study

__all__ = ["Cohort", "as_files", "bands", "column_of", "in_order", "open_cohort"]

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cohort:
    """Volumes and whose they are.

    Attributes:
        values: [N, C, D, H, W] float32 in [-1, 1].
        labels: [N] class of each, of those that the generator is conditioned on.
        positive: [N] whether it is of the class to find.
        subjects: [N].
        columns: name -> [N] what the manifest says, None where it does not.
        fingerprint: sha256 hex of what was read.
        dataset: what a generator trains on, its items in the same order; None in simulations.
    """

    values: Floats
    labels: Integers
    positive: Bools
    subjects: Texts
    columns: dict[str, list[float | str | None]]
    fingerprint: str
    dataset: Dataset | None = None

    def __len__(self) -> int:
        return len(self.positive)

    def subset(self, at: Integers) -> Cohort:
        """The volumes at these positions, in their order."""
        return replace(
            self,
            values=self.values[at],
            labels=self.labels[at],
            positive=self.positive[at],
            subjects=self.subjects[at],
            columns={name: [known[i] for i in at] for name, known in self.columns.items()},
            fingerprint=hashlib.sha256(
                f"{self.fingerprint} {list(map(int, at))}".encode()
            ).hexdigest(),
            dataset=None if self.dataset is None else self.dataset.subset(at.tolist()),
        )


def open_cohort(study: Study, *, cache_dir: Path | None = None) -> tuple[Cohort, Cohort | None]:
    """The patients that are dealt to folds, and those of the external test where one is named.

    `external: {column: split, value: holdout}` names the patients that the manifest, or
    `data.holdout`, holds out; otherwise all patients whom no manifest holds out are dealt to folds.

    Raises:
        ConfigError: an unknown class or column, nobody left, patients in both parts.
        BadFile and its kinds: a volume that cannot be used.
    """
    data, external = study.run.data, study.external
    by_split = external is not None and external.column == "split"
    if not by_split:
        data = data.model_copy(update={"holdout": 0.0})
    cohort = _cohort(open_dataset(data, "train", cache_dir=cache_dir), study)
    if external is None:
        return cohort, None
    if by_split:
        if external.value != "holdout":
            raise ConfigError(
                f"external.value: of split 'holdout' is meant, got {external.value!r}"
            )
        return cohort, _cohort(open_dataset(data, "holdout", cache_dir=cache_dir), study)
    outside = np.array([text == external.value for text in _texts(cohort, external.column)])
    if not outside.any() or outside.all():
        seen = ", ".join(sorted(set(_texts(cohort, external.column)))[:8])
        raise ConfigError(
            f"external: {int(outside.sum())} of {len(cohort)} volumes have {external.column} = "
            f"{external.value!r}; found: {seen}"
        )
    both = np.intersect1d(cohort.subjects[outside], cohort.subjects[~outside])
    if len(both):
        raise ConfigError(
            f"external: {len(both)} patients have volumes on both sides of {external.column} = "
            f"{external.value!r}, first {both[0]!r}; an external test shares nobody"
        )
    return cohort.subset(np.flatnonzero(~outside)), cohort.subset(np.flatnonzero(outside))


def as_files(volumes: Floats, dataset: Dataset) -> Floats:
    """What a network sees or draws, any shape, as files hold it: levels become masks again."""
    record = dataset.normalisation
    return normalise(denormalise(volumes, record), record) if "share" in record else volumes


def column_of(item: Item, name: str) -> float | str | None:
    """What is known of a volume under a name: a manifest's column, or a bundled set's attribute."""
    if name in ("site", "scanner", "split", "modality"):
        known: str | None = getattr(item, name)
        return known
    if name in item.columns:
        return item.columns[name].value
    value = item.attributes.get(name)
    return str(value).lower() if isinstance(value, bool) else value


def bands(values: Sequence[float | str | None], cuts: Sequence[float]) -> list[str]:
    """Names of groups: texts as they are, numbers by the band they fall into.

    Args:
        values: of a column; None is "unknown".
        cuts: where bands begin; none: at the thirds of the numbers.

    >>> bands([40.0, 60.0, None], [50.0])
    ['below 50', '50 and more', 'unknown']
    """
    numbers = [v for v in values if isinstance(v, float | int)]
    if len(numbers) < sum(v is not None for v in values) or not numbers:
        return [UNKNOWN if v is None else str(v) for v in values]
    edges = sorted(set(cuts)) or sorted(set(np.quantile(numbers, [1 / 3, 2 / 3]).tolist()))
    if not cuts and len(set(numbers)) <= 3:
        return [UNKNOWN if v is None else f"{v:g}" for v in values]
    names = [f"below {edges[0]:g}"]
    names += [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    names += [f"{edges[-1]:g} and more"]
    return [
        UNKNOWN if v is None else names[int(np.searchsorted(edges, float(v), side="right"))]
        for v in values
    ]


def in_order(names: Iterable[str]) -> list[str]:
    """Different names of groups, bands of numbers from the lowest.

    >>> in_order(["100 and more", "20 to 100", "below 20", "unknown"])
    ['below 20', '20 to 100', '100 and more', 'unknown']
    """

    def place(name: str) -> tuple[bool, bool, float, str]:
        number = re.match(r"-?[\d.]+(e[+-]?\d+)?", name)
        first = float(number[0]) if number else math.inf
        return name == UNKNOWN, not name.startswith("below "), first, name

    return sorted(set(names), key=place)


def _cohort(dataset: Dataset, study: Study) -> Cohort:
    if study.positive not in dataset.classes:
        raise ConfigError(
            f"positive: no class {study.positive!r}; classes: {', '.join(dataset.classes)}"
        )
    kept = np.ones(len(dataset), bool)
    for name, (low, high) in study.keep.items():
        values = [column_of(item, name) for item in dataset.items]
        if not any(isinstance(v, float | int) for v in values):
            raise ConfigError(f"keep.{name}: no volume has a number of that name")
        kept &= np.array([isinstance(v, float | int) and low <= v <= high for v in values])
    if not kept.any():
        raise ConfigError(f"keep: leaves none of {len(dataset)} volumes")
    chosen = np.flatnonzero(kept)
    dataset = dataset.subset(chosen.tolist())
    stack = np.stack([dataset.volume(i) for i in range(len(dataset))])
    names = {key for item in dataset.items for key in (*item.columns, *item.attributes)}
    columns = {
        name: [column_of(item, name) for item in dataset.items]
        for name in sorted({*names, "site", "scanner"})
    }
    return Cohort(
        values=as_files(stack, dataset).astype(np.float32),
        labels=dataset.labels,
        positive=dataset.labels == dataset.classes.index(study.positive),
        subjects=np.array([item.subject for item in dataset.items]),
        columns={n: v for n, v in columns.items() if any(one is not None for one in v)},
        fingerprint=dataset.fingerprint,
        dataset=dataset,
    )


def _texts(cohort: Cohort, name: str) -> Column:
    known = cohort.columns.get(name)
    if known is None:
        raise ConfigError(
            f"external.column: no volume has {name!r}; known: {', '.join(cohort.columns) or 'none'}"
        )
    return np.array([UNKNOWN if v is None else str(v) for v in known])
