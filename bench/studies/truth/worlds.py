"""A hospital's data and a perfect generator's, of one law: what faults are planted in."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bench.studies.truth.laws import Law, People, law_of
from bench.studies.truth.sources import EXTENT
from fastgan.arrays import Bools, Floats, Integers, Texts
from fastgan.audit.evidence import Cohort, Evidence

__all__ = ["CLASSES", "SITES", "Patients", "Setting", "World", "labels_of"]


CLASSES = ("benign", "malignant")
SITES = np.array(["north", "south", "west"])
HELD_OUT = 1 / 3


@dataclass(frozen=True)
class Setting:
    """Numbers of a data set."""

    family: str = "fields"
    size: int = 16
    patients: int = 200
    """Training and held-out ones together; a third is held out."""
    volumes: str = "1"
    """Of a patient: "1", "1-3" or "4"."""
    sites: int = 1
    tied: bool = False
    """Whether how many volumes a patient has goes with the site."""
    window: str = "fixed"
    """fixed: one for all volumes; percentiles: each volume's own."""
    generated: int = 300
    clarity: float = 1.0
    """How far the classes lie apart, of patients and generated volumes; 2: a reader tells them."""
    measured: bool = False
    """Whether the owner measured the lesions' sizes, to a tenth or so, on every volume."""

    @property
    def name(self) -> str:
        """In tables and keys."""
        parts = [self.family, f"{self.size}^3", f"{self.patients} patients"]
        parts.append(f"{self.volumes} each" + (", by site" if self.tied else ""))
        parts.append(f"{self.sites} sites" if self.sites > 1 else "one site")
        parts.append(self.window)
        parts += ["plain classes"] * (self.clarity > 1) + ["lesions measured"] * self.measured
        return ", ".join(parts)


@dataclass(frozen=True)
class Patients:
    """Scans of patients in the law's own units, before any window."""

    raw: Floats
    """[N, S, S, S]"""
    owner: Integers
    """[N] row in `people`."""
    people: People
    subjects: Texts
    """[N]"""
    sites: Texts
    """[N]"""

    @property
    def labels(self) -> Integers:
        """[N]"""
        return np.asarray(self.people["label"])[self.owner].astype(np.int64)

    @property
    def burden(self) -> Floats:
        """[N] size of the lesion."""
        return np.asarray(self.people["burden"])[self.owner].astype(np.float64)

    def rows(self, chosen: Integers | Bools) -> Patients:
        """The chosen scans."""
        return replace(
            self,
            raw=self.raw[chosen],
            owner=self.owner[chosen],
            subjects=self.subjects[chosen],
            sites=self.sites[chosen],
        )


class World:
    """One data set: its patients, the law, and the seed of everything drawn.

    Args:
        setting: its numbers.
        seed: another seed is another, independent data set.
    """

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.seed = setting, seed
        self.law: Law = law_of(setting.family, setting.size)

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers of this data set and purpose alone."""
        name = zlib.crc32(f"{self.setting.name}/{purpose}".encode())
        return np.random.default_rng([20261130, self.seed, name])

    def fresh(
        self, count: int, name: str, *, clarity: float = 1.0, labels: Integers | None = None
    ) -> Patients:
        """That many patients nobody has seen, one scan each, of all sites."""
        rng = self.rng(name)
        drawn = rng.permutation(count) % 2 if labels is None else labels
        people = self.law.people(drawn, rng, clarity * self.setting.clarity)
        owner = np.arange(count)
        sites = SITES[rng.integers(self.setting.sites, size=count)]
        raw = self.law.scans(people, owner, rng)
        return Patients(raw, owner, people, self._names(name, count), sites)

    @cached_property
    def _hospital(self) -> Patients:
        setting, rng = self.setting, self.rng("hospital")
        count = setting.patients
        labels = rng.permutation(count) % 2
        site = rng.permutation(count) % setting.sites
        volumes = self._volumes(site, rng)
        owner = np.repeat(np.arange(count), volumes)
        people = self.law.people(labels, rng, setting.clarity)
        raw = self.law.scans(people, owner, rng)
        return Patients(
            raw, owner, people, self._names("patient", count)[owner], SITES[site[owner]]
        )

    def _volumes(self, site: Integers, rng: np.random.Generator) -> Integers:
        """[P] how many volumes each patient has."""
        setting = self.setting
        if setting.volumes == "1":
            return np.ones(len(site), np.int64)
        most = 3 if setting.volumes == "1-3" else 4
        if setting.tied:
            # The first site sends one, the last all.
            steps = np.linspace(1, most, setting.sites).round().astype(np.int64)
            return steps[site]
        if setting.volumes == "1-3":
            return rng.integers(1, 4, len(site))
        return np.full(len(site), 4)

    def _names(self, name: str, count: int) -> Texts:
        return np.array([f"{name}-{i:04d}" for i in range(count)])

    @cached_property
    def training(self) -> Patients:
        """Two thirds of the patients."""
        return self._hospital.rows(self._hospital.owner >= self._held)

    @cached_property
    def holdout(self) -> Patients:
        """The others; patients come in random order, so the split is one."""
        return self._hospital.rows(self._hospital.owner < self._held)

    @property
    def _held(self) -> int:
        return round(self.setting.patients * HELD_OUT)

    @cached_property
    def generated(self) -> Patients:
        """What a perfect generator draws."""
        return self.fresh(self.setting.generated, "generated")

    def rescans(self, patients: Patients, count: int, name: str) -> Patients:
        """New scans of patients who were seen: what an overfitted generator draws."""
        rng = self.rng(name)
        owner = rng.choice(np.unique(patients.owner), count)
        raw = self.law.scans(patients.people, owner, rng)
        sites = SITES[np.zeros(count, np.int64)]
        return Patients(raw, owner, patients.people, self._names(name, count), sites)

    def values(self, raw: Floats) -> Floats:
        """In [-1, 1], by the window of the setting."""
        ends = np.asarray(self.law.window, np.float32)
        low, high = ends if self.setting.window == "fixed" else _percentiles(raw)
        out: Floats = 2 * np.clip((raw - low) / (high - low), 0, 1) - 1
        return out.astype(np.float32)

    def cohort(self, patients: Patients, name: str) -> Cohort:
        """Scans as an audit sees them; generated ones are each of their own, of no site."""
        columns = {}
        if name != "generated" and self.setting.sites > 1:
            columns = {"site": patients.sites}
        values = self.values(patients.raw)
        windows = None
        if self.setting.window == "percentiles":
            windows = np.stack([end.ravel() for end in _percentiles(patients.raw)], axis=1)
        traits = {}
        if self.setting.measured:
            error = 0.1 * self.rng(f"measured {name}").standard_normal(len(values))
            traits = {"lesion size": patients.burden * np.exp(error)}
        return Cohort(
            name, values, patients.subjects, patients.labels, columns, (), True, windows, traits
        )

    def evidence(
        self,
        training: Patients | Cohort | None = None,
        holdout: Patients | Cohort | None = None,
        generated: Patients | Cohort | None = None,
    ) -> Evidence:
        """What is given, and the clean cohorts for the rest."""
        cohorts = []
        for name, given, clean in (
            ("training", training, "training"),
            ("held-out", holdout, "holdout"),
            ("generated", generated, "generated"),
        ):
            whose = getattr(self, clean) if given is None else given
            cohorts.append(whose if isinstance(whose, Cohort) else self.cohort(whose, name))
        step = EXTENT / self.setting.size
        first, second, third = cohorts
        return Evidence(first, second, third, (step, step, step), CLASSES, self.law.modality)


def labels_of(cohort: Cohort) -> Integers:
    """[N] labels, which every cohort of a world has."""
    if cohort.labels is None:
        raise ValueError(f"{cohort.name} volumes: no labels")
    return np.asarray(cohort.labels)


def _percentiles(raw: Floats) -> tuple[Floats, Floats]:
    """[N, 1, 1, 1] the 0.5 and 99.5 percentiles of each volume's foreground."""
    ends = np.empty((2, len(raw), 1, 1, 1), np.float32)
    for i, volume in enumerate(raw):
        least = volume.min()
        foreground = volume[volume >= least + 0.1 * (volume.mean() - least)]
        ends[:, i, 0, 0, 0] = np.percentile(foreground, (0.5, 99.5))
    return ends[0], ends[1]
