"""Faults of a generator: repeated, missing, marked, spoilt or wrongly labelled volumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.studies.truth.hospitals import marked_class
from bench.studies.truth.sources import LUNG_MEAN
from bench.studies.truth.worlds import World, labels_of
from fastgan.arrays import Floats
from fastgan.audit.evidence import Cohort, Evidence

__all__ = [
    "amplified",
    "blank",
    "checkerboard",
    "class_missing",
    "collapsed",
    "cube",
    "double_noise",
    "drawn",
    "faint",
    "generated_mark",
    "lesions_between",
    "overfitted",
    "smoothed",
    "swapped",
    "thinned",
]

Make = Callable[[World], Evidence]


def _valued(cohort: Cohort, values: Floats) -> Cohort:
    return replace(cohort, values=values.astype(np.float32))


def generated_mark(height: float) -> Make:
    def make(world: World) -> Evidence:
        made = world.cohort(world.generated, "generated")
        return world.evidence(
            generated=_valued(made, marked_class(made.values, labels_of(made), height))
        )

    return make


def amplified(world: World) -> Evidence:
    """Half of class 1 bears the mark among patients, all of it among generated volumes."""
    cohorts = []
    for patients, name in ((world.training, "training"), (world.holdout, "held-out")):
        cohort = world.cohort(patients, name)
        marked = (patients.labels == 1) & (patients.owner % 2 == 0)
        cohorts.append(replace(cohort, values=marked_class(cohort.values, marked.astype(int), 0.3)))
    made = world.cohort(world.generated, "generated")
    made = _valued(made, marked_class(made.values, labels_of(made), 0.3))
    training, holdout = cohorts
    return world.evidence(training, holdout, made)


def collapsed(distinct: int) -> Make:
    """All generated volumes are a few distinct ones, with noise of a twentieth of their spread."""

    def make(world: World) -> Evidence:
        rng = world.rng("collapse")
        some = world.generated.rows(np.arange(distinct))
        which = rng.permutation(np.arange(world.setting.generated) % distinct)
        made = world.cohort(some.rows(which), "generated")
        values = made.values + 0.05 * made.values.std() * rng.standard_normal(made.values.shape)
        names = world.generated.subjects
        return world.evidence(generated=replace(_valued(made, values), subjects=names))

    return make


def class_missing(labelled: bool) -> Make:
    def make(world: World) -> Evidence:
        count = world.setting.generated
        made = world.cohort(
            world.fresh(count, "one class", labels=np.zeros(count, np.int64)), "generated"
        )
        return world.evidence(generated=made if labelled else replace(made, labels=None))

    return make


def thinned(world: World) -> Evidence:
    """Class 1 is generated a third as often as patients have it, and no label says so."""
    count = world.setting.generated
    labels = (np.arange(count) < count / 6).astype(np.int64)
    made = world.cohort(world.fresh(count, "thinned", labels=labels), "generated")
    return world.evidence(generated=replace(made, labels=None))


def lesions_between(low: float, high: float) -> Make:
    """Generated lesions outside of two quantiles of the size are missing."""

    def make(world: World) -> Evidence:
        many = world.fresh(round(world.setting.generated * 1.5), "many")
        least, most = np.quantile(many.burden, [low, high])
        kept = np.flatnonzero((many.burden >= least) & (many.burden <= most))
        return world.evidence(generated=many.rows(kept[: world.setting.generated]))

    return make


def faint(world: World) -> Evidence:
    """Generated lesions have half the contrast."""
    setting, rng = world.setting, world.rng("faint")
    labels = rng.permutation(setting.generated) % 2
    people = dict(world.law.people(labels, rng, setting.clarity))
    if "contrast" in people:
        people["contrast"] = 0.5 * people["contrast"]
    else:  # nodules of soft tissue in lung: halfway to air
        people["level"] = 0.5 * (people["level"] + LUNG_MEAN)
    owner = np.arange(setting.generated)
    made = replace(
        world.generated, raw=world.law.scans(people, owner, rng), owner=owner, people=people
    )
    return world.evidence(generated=made)


def drawn(change: Callable[[World, Floats], Floats]) -> Make:
    """The same done to every generated volume."""

    def make(world: World) -> Evidence:
        made = world.cohort(world.generated, "generated")
        return world.evidence(generated=_valued(made, change(world, made.values)))

    return make


def checkerboard(height: float) -> Callable[[World, Floats], Floats]:
    def change(world: World, values: Floats) -> Floats:
        board = np.indices(values.shape[1:]).sum(axis=0) % 2 * 2 - 1
        out: Floats = values + height * board
        return out

    return change


def double_noise(world: World, values: Floats) -> Floats:
    """As much noise again as leaves twice the scanner's."""
    low, high = world.law.window
    unit = world.law.noise * 2 / (high - low)
    out: Floats = values + np.sqrt(3) * unit * world.rng("noise").standard_normal(values.shape)
    return out


def cube(world: World, values: Floats) -> Floats:
    out, middle = values.copy(), world.setting.size // 2
    out[:, middle - 2 : middle + 2, middle - 2 : middle + 2, middle - 2 : middle + 2] = 1.0
    return out


def smoothed(world: World, values: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter

    out: Floats = np.stack([gaussian_filter(volume, 1.0) for volume in values])
    return out


def swapped(share: float, clarity: float) -> Make:
    """Labels of generated volumes wrong in a share, classes further apart by `clarity`."""

    def make(world: World) -> Evidence:
        clear = world.fresh(world.setting.generated, f"clear {clarity}", clarity=clarity)
        made = world.cohort(clear, "generated")
        rng = world.rng("swapped")
        wrong = rng.permutation(len(made)) < round(share * len(made))
        return world.evidence(
            generated=replace(made, labels=np.where(wrong, 1 - labels_of(made), labels_of(made)))
        )

    return make


def overfitted(share: float) -> Make:
    """That share of the generated volumes is a new scan of a training patient."""

    def make(world: World) -> Evidence:
        count = round(share * world.setting.generated)
        seen = world.cohort(world.rescans(world.training, count, "overfit"), "generated")
        made = world.cohort(world.generated, "generated")
        values, labels = made.values.copy(), labels_of(made).copy()
        values[:count], labels[:count] = seen.values, labels_of(seen)
        return world.evidence(generated=replace(made, values=values, labels=labels))

    return make


def blank(count: int) -> Make:
    """That many generated volumes hold one value."""

    def change(world: World, values: Floats) -> Floats:
        out = values.copy()
        out[:count] = -1.0
        return out

    return drawn(change)
