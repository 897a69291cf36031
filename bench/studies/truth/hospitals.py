"""Faults of a hospital's data: sites, marks, patients listed twice or on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.studies.truth.copies import with_copies
from bench.studies.truth.worlds import SITES, Patients, World, labels_of
from fastgan.arrays import Floats, Integers
from fastgan.audit.evidence import Cohort, Evidence

__all__ = [
    "gain",
    "labels_wrong",
    "leaked",
    "listed_twice",
    "marked_class",
    "real_mark",
    "sites_by_class",
]

Make = Callable[[World], Evidence]


def gain(share: float) -> Make:
    """One site's volumes are brighter; under each volume's own window there is nothing to see."""

    def make(world: World) -> Evidence:
        def brighter(patients: Patients) -> Patients:
            one = (patients.sites == "south")[:, None, None, None]
            return replace(
                patients, raw=patients.raw + one * share * (patients.raw - world.law.window[0])
            )

        return world.evidence(brighter(world.training), brighter(world.holdout))

    return make


def marked_class(values: Floats, labels: Integers, height: float) -> Floats:
    """A cube of 3 voxels near a corner, of class 1 alone."""
    out = values.copy()
    one = labels == 1
    out[one, 1:4, 1:4, 1:4] = np.minimum(out[one, 1:4, 1:4, 1:4] + 2 * height, 1.0)
    return out


def real_mark(where: str, height: float, agreement: float) -> Make:
    """All volumes of class 1, or of a site that goes with class 1, bear a mark; so do generated."""

    def make(world: World) -> Evidence:
        size = world.setting.size
        first = 1 if where == "corner" else size // 4
        at = slice(first, first + 3)

        def marked(patients: Patients, name: str) -> Cohort:
            rng = world.rng(f"agreement/{name}")
            right = rng.random(len(patients.people["label"])) < agreement
            bears = np.where(right[patients.owner], patients.labels == 1, patients.labels == 0)
            cohort = world.cohort(patients, name)
            values = cohort.values.copy()
            values[bears, at, at, at] = np.minimum(values[bears, at, at, at] + 2 * height, 1.0)
            columns = dict(cohort.columns)
            if where == "site":
                columns["site"] = np.where(bears, "south", "north")
            return replace(cohort, values=values, columns=columns)

        return world.evidence(
            marked(world.training, "training"),
            marked(world.holdout, "held-out"),
            replace(marked(world.generated, "generated"), columns={}),
        )

    return make


def sites_by_class(agreement: float) -> Make:
    """The site goes with the class, and nothing in the voxels with the site."""

    def make(world: World) -> Evidence:
        def named(patients: Patients, name: str) -> Cohort:
            rng = world.rng(f"sites/{name}")
            right = rng.random(len(patients.people["label"])) < agreement
            second = np.where(right[patients.owner], patients.labels == 1, patients.labels == 0)
            cohort = world.cohort(patients, name)
            return replace(cohort, columns={"site": SITES[second.astype(int)]})

        return world.evidence(named(world.training, "training"), named(world.holdout, "held-out"))

    return make


def labels_wrong(share: float) -> Make:
    """That share of the patients has the other class's label: readers' noise, nobody's fault."""

    def make(world: World) -> Evidence:
        def read(patients: Patients, name: str) -> Cohort:
            wrong = world.rng(f"wrong/{name}").random(len(patients.people["label"])) < share
            cohort = world.cohort(patients, name)
            labels = np.where(wrong[patients.owner], 1 - patients.labels, patients.labels)
            return replace(cohort, labels=labels)

        made = read(world.generated, "generated")
        return world.evidence(
            read(world.training, "training"), read(world.holdout, "held-out"), made
        )

    return make


def listed_twice(noise: float, copies: int) -> Make:
    """3 % of the training patients are listed under a second name; copies among the generated."""

    def make(world: World) -> Evidence:
        rng = world.rng("twice")
        training = world.cohort(world.training, "training")
        known = np.unique(training.subjects)
        twice = rng.choice(known, max(2, round(0.03 * len(known))), replace=False)
        again = training.subset(np.isin(training.subjects, twice))
        joined = _joined(training, again, "again", noise, rng)
        return world.evidence(joined, generated=with_copies(world, copies, 0.1) if copies else None)

    return make


def leaked(noise: float, copies: int) -> Make:
    """10 % of the training patients are in the hold-out as well, under other names."""

    def make(world: World) -> Evidence:
        rng = world.rng("leaked")
        training = world.cohort(world.training, "training")
        known = np.unique(training.subjects)
        both = rng.choice(known, round(0.1 * len(known)), replace=False)
        again = training.subset(np.isin(training.subjects, both))
        holdout = _joined(world.cohort(world.holdout, "held-out"), again, "other", noise, rng)
        made = with_copies(world, copies, 0.1) if copies else None
        return world.evidence(holdout=holdout, generated=made)

    return make


def _joined(
    cohort: Cohort, again: Cohort, prefix: str, noise: float, rng: np.random.Generator
) -> Cohort:
    extra = again.values + noise * rng.standard_normal(again.values.shape)
    return replace(
        cohort,
        values=np.concatenate([cohort.values, np.clip(extra, -1, 1).astype(np.float32)]),
        subjects=np.concatenate([cohort.subjects, np.char.add(f"{prefix}-", again.subjects)]),
        labels=np.concatenate([labels_of(cohort), labels_of(again)]),
        columns={
            name: np.concatenate([column, again.columns[name]])
            for name, column in cohort.columns.items()
        },
    )
