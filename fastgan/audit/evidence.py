"""An audit looks at training, held-out and generated volumes, with what is known of each."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastgan.arrays import Bools, Column, Floats, Integers, Texts
from fastgan.audit.rules import limit, whole
from fastgan.errors import AuditError, NotAsked

__all__ = [
    "COLUMNS",
    "LEAST_SUBJECTS",
    "LEAST_TO_FIT",
    "Cohort",
    "Draw",
    "Evidence",
    "Insider",
    "Options",
    "Score",
    "Translate",
    "no_insider",
    "require_labels",
    "subjects_by",
]

COLUMNS = ("site", "scanner", "modality")
"""Manifest columns that say where a volume comes from rather than what it shows."""

LEAST_SUBJECTS = whole("audit.least_subjects")
"""Subjects that each group needs before groups are compared."""
LEAST_TO_FIT = whole("audit.least_to_fit")
"""Subjects that each group needs before something is fitted: fewer, and no classifier finds even a
plain shortcut."""

Draw = Callable[[Integers, int | None], Floats]
"""Generated volumes of latents: (latent numbers [N], class or None) -> [N, D, H, W] in [-1, 1].

The same number is the same latent whatever the class."""

Translate = Callable[[Floats], Floats]
"""Volumes of domain A as domain B: [N, D, H, W] in [-1, 1] -> the same."""

Score = Callable[[Floats, Integers | None], Floats]
"""One number a volume: (volumes [N, D, H, W] in [-1, 1], classes [N] or None) -> [N].

Each is a function of its own volume and class alone."""


@dataclass(frozen=True)
class Insider:
    """What somebody can do who holds the networks of a run.

    Scores raise AuditError where the networks ask for classes and None is given.
    """

    critic: Score
    """How real the critic finds a volume; higher is more real."""
    inverse: Score
    """Root mean square distance to the nearest volume that the generator is brought to draw."""
    overtrained: Callable[[Floats, Integers | None, float], Score]
    """A critic like it after training on the given volumes and classes alone, for so long that it
    knows them; AuditError where that would take more than the given seconds."""
    blank: Score
    """A critic like it before any training: it has seen nobody."""


def no_insider() -> Insider:
    """Nobody holds any networks.

    Raises:
        NotAsked: always.
    """
    raise NotAsked("no checkpoint with a critic is at hand, the generated volumes are all there is")


@dataclass(frozen=True)
class Cohort:
    """Volumes of one kind, on one grid. A subject may have several.

    Raises:
        AuditError: arrays of different lengths, values that are not [N, D, H, W] and finite.
    """

    name: str
    """In sentences: "training", "held-out", "generated"."""
    values: Floats
    """[N, D, H, W] float32 in [-1, 1]: the files' units on the run's grid and range. A mask's
    background is -1 (not a level, whatever the networks are shown)."""
    subjects: Texts
    """[N] who each is of; generated volumes are each of their own."""
    labels: Integers | None = None
    """[N] positions in `Evidence.classes`, or None where nothing is labelled."""
    columns: Mapping[str, Texts] = field(default_factory=dict)
    """Manifest column -> [N] text, "" where a row leaves it out."""
    files: tuple[Path, ...] = ()
    """[N] files as they lie on the disk, or () where the volumes come out of an archive."""
    subjects_named: bool = True
    """False where, for want of names, every file counts as a subject of its own."""
    windows: Floats | None = None
    """[N, 2] the files' units that became -1 and 1, where each volume has a window of its own."""
    traits: Mapping[str, Floats] = field(default_factory=dict)
    """What the owner measured on every volume, such as the size of its lesion: name -> [N]."""

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 4:
            raise AuditError(f"{self.name} volumes: must be [N, D, H, W], got {values.shape}")
        if not np.isfinite(values).all():
            bad = int(np.nonzero(~np.isfinite(values).all(axis=(1, 2, 3)))[0][0])
            raise AuditError(f"{self.name} volumes: number {bad} holds NaN or infinity")
        counts = {"subjects": len(self.subjects)}
        counts |= {name: len(column) for name, column in self.columns.items()}
        counts |= {f"values of {name}": len(found) for name, found in self.traits.items()}
        counts |= {} if self.labels is None else {"labels": len(self.labels)}
        counts |= {"files": len(self.files)} if self.files else {}
        counts |= {} if self.windows is None else {"windows": len(self.windows)}
        for what, count in counts.items():
            if count != len(values):
                raise AuditError(f"{self.name} volumes: {len(values)} volumes but {count} {what}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_subjects(self) -> int:
        """How many different subjects."""
        return len(np.unique(self.subjects))

    def subset(self, chosen: Integers | Bools) -> Cohort:
        """The chosen volumes, by positions or by a mask [N]."""
        positions = np.arange(len(self))[chosen]
        return Cohort(
            self.name,
            self.values[positions],
            self.subjects[positions],
            None if self.labels is None else self.labels[positions],
            {name: column[positions] for name, column in self.columns.items()},
            tuple(self.files[i] for i in positions) if self.files else (),
            self.subjects_named,
            None if self.windows is None else self.windows[positions],
            {name: found[positions] for name, found in self.traits.items()},
        )


def subjects_by(column: Column, subjects: Texts) -> dict[str, int]:
    """How many subjects [N] have each value of a column [N]; "" counts for none."""
    return {
        str(value): len(np.unique(subjects[column == value]))
        for value in np.unique(column)
        if str(value)
    }


def require_labels(
    cohort: Cohort, least: int = LEAST_TO_FIT, classes: tuple[str, ...] = ()
) -> Integers:
    """Labels [N] of a cohort.

    Raises:
        NotAsked: there are none.
        AuditError: one class, or fewer than `least` subjects in a class, which are named by
            `classes` as far as those go.
    """
    if cohort.labels is None:
        raise NotAsked(f"the {cohort.name} volumes have no labels")
    counts = subjects_by(cohort.labels, cohort.subjects)
    if len(counts) < 2:
        raise AuditError(f"the {cohort.name} volumes have one class")
    if min(counts.values()) < least:
        known = dict(zip(map(str, range(len(classes))), classes, strict=True))
        named = ", ".join(f"{known.get(c, c)}: {n}" for c, n in counts.items())
        raise AuditError(
            f"needs at least {least} {cohort.name} subjects of each class, got {named}"
        )
    return cohort.labels


@dataclass(frozen=True)
class Evidence:
    """All that a judgement may use."""

    training: Cohort
    holdout: Cohort
    generated: Cohort | None
    spacing: tuple[float, float, float]
    """mm along D, H, W."""
    classes: tuple[str, ...] = ()
    modality: str = "mr"
    """"ct", "mr" or "mask"; pictures of masks show surfaces, and their background is -1."""
    augmentations: tuple[str, ...] | None = ()
    """What the run applied to real volumes while training: names of `alterations.AUGMENTATIONS`;
    None where another program trained and nobody says."""
    draw: Draw | None = None
    """The generator, where the audit is of a run that has one."""
    translate: Translate | None = None
    """The translator A to B of a cyclegan; then `training` and `holdout` are of domain A and
    `generated` are translations of `holdout`, in the same order."""
    insider: Callable[[], Insider] = no_insider
    """Loads the networks of the run that is audited; NotAsked, with the reason, where there are
    none, AuditError where they cannot be used."""
    target: Cohort | None = None
    """Held-out volumes of domain B, where there is a translator."""
    truth: Cohort | None = None
    """Domain B of the same subjects as `holdout`, aligned, in the same order, where that exists."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the cards and the report say of the origin: run, checkpoint, hash, version."""

    @property
    def nameless(self) -> str:
        """Why nothing that rests on a split by subjects can pass, or ""."""
        if self.training.subjects_named and self.holdout.subjects_named:
            return ""
        return (
            "the data do not say whose volumes they are, so one patient's may lie on both sides of "
            "the split; name them in a manifest's column `subject`, or as sub-XX in the file names"
        )

    @property
    def traits(self) -> tuple[str, ...]:
        """What was measured on patients and generated volumes alike."""
        cohorts = [c for c in (self.holdout, self.generated) if c is not None]
        return tuple(n for n in self.training.traits if all(n in c.traits for c in cohorts))

    def require_generated(self) -> Cohort:
        """The generated volumes.

        Raises:
            AuditError: there are none.
        """
        if self.generated is None or not len(self.generated):
            raise AuditError("no generated volumes were given: --generated FOLDER")
        return self.generated


@dataclass(frozen=True)
class Options:
    """How an audit is carried out."""

    seed: int = 0
    quick: bool = False
    """Leave out the controls: what rests on them is then unmeasured, and does not pass."""
    alpha: float = limit("audit.alpha")
    """Family-wise error over all judgements (Holm)."""
    planted: int = whole("audit.planted")
    """Planted runs behind each point of a power curve."""
    permutations: int = whole("audit.permutations")
    patient_images: bool = False
    """Whether pictures of patients may be drawn."""

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the seed and on `purpose` alone."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])
