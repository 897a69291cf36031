"""The settings of a utility study: a run's configuration, and what is compared on its data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fastgan.config import Config, Section, checked
from fastgan.errors import ConfigError
from fastgan.strict_yaml import read_mapping

__all__ = ["GAN_ARMS", "PARTNER", "SIMPLE_ARMS", "Arm", "Study", "Trials", "load"]

Arm = Literal["real", "oversampled", "classic", "gan", "gan+classic"]
SIMPLE_ARMS: tuple[Arm, ...] = ("real", "oversampled", "classic")
GAN_ARMS: tuple[Arm, ...] = ("gan", "gan+classic")
PARTNER: dict[Arm, Arm] = {"gan": "oversampled", "gan+classic": "classic"}
"""The same training without generated volumes: all that differs is the GAN."""
PROTOCOL = "utility-1"
"""Changes whenever numbers of a study stop being comparable with earlier ones."""
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Trial = Annotated[float, Field(ge=0.0, le=100.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Trials(Section):
    """Values of each arm's own strength that its inner splits choose from, equally many."""

    real: tuple[Trial, ...] = (0.01, 0.05, 0.2)
    """Weight decay, as of all arms 0.05 where nothing is tried."""
    oversampled: tuple[Trial, ...] = (0.5, 0.75, 1.0)
    """How far the classes are balanced: 0 as they come, 1 equally often."""
    classic: tuple[Trial, ...] = (0.5, 1.0, 2.0)
    """Factor on the strength of every augmentation; classes are balanced."""
    gan: tuple[Trial, ...] = (0.25, 0.5, 0.75)
    """Share of generated volumes among those drawn; classes are balanced."""
    gan_classic: tuple[Trial, ...] = (0.25, 0.5, 0.75)
    """The same, with augmentation of the common strength 1 on all."""

    def of(self, arm: Arm) -> tuple[float, ...]:
        """The values of an arm."""
        values: tuple[float, ...] = getattr(self, arm.replace("+", "_"))
        return values


class Inner(Section):
    """How a strength is chosen, among the training patients of a fold alone."""

    splits: int = Field(default=1, ge=1, le=20)
    """Random splits; the generator is trained anew in each."""
    share: Share = 0.3
    """Of the patients, to choose by."""


class Learner(Section):
    """The classifier whose gain is measured."""

    kind: Literal["cnn", "block-means"] = "cnn"
    """cnn: a small 3D network; block-means: ridge regression on a coarse grid, in milliseconds."""
    steps: int = Field(default=300, ge=1, le=10**7)
    """Gradient steps, the same in every arm."""
    batch_size: int = Field(default=16, ge=2, le=2**12)
    learning_rate: float = Field(default=1e-3, gt=0.0, le=10.0)


class Groups(Section):
    """Patients that must not be harmed, by a column of the manifest or of the bundled set."""

    column: str
    """site, scanner, split or any further column."""
    cuts: tuple[float, ...] = ()
    """Of numbers: where bands begin; none: at their thirds."""


class External(Section):
    """Patients that no fold trains on and every fold is tested on, beside its own."""

    column: str
    value: str


class Study(Section):
    """One study."""

    name: Name = "utility"
    seed: int = Field(default=0, ge=0, lt=2**63)
    run: Config = Config()
    """As of `fastgan train`: the data, and the conditional generator that is trained in each fold.
    `data.holdout` is not used: the study makes folds of its own."""
    positive: str
    """The class to find; all others together are its opposite."""
    keep: dict[str, tuple[float, float]] = Field(default={})
    """Column of numbers: the range, ends included, outside which volumes are left out."""
    thin: Share | None = None
    """Share of positive volumes in training, made by leaving positive patients out there."""
    external: External | None = None
    arms: tuple[Arm, ...] = Field(default=(*SIMPLE_ARMS, *GAN_ARMS), min_length=2)
    folds: int = Field(default=5, ge=2, le=50)
    repeats: int = Field(default=1, ge=1, le=50)
    """Times the patients are dealt to folds anew."""
    seeds: int = Field(default=5, ge=1, le=100)
    """Trainings of each classifier, averaged before any test."""
    inner: Inner = Inner()
    trials: Trials = Trials()
    learner: Learner = Learner()
    classic: tuple[Literal["flip", "rotate", "scale", "intensity", "elastic"], ...] = (
        "flip",
        "rotate",
        "scale",
        "intensity",
        "elastic",
    )
    synthetic: float = Field(default=1.0, gt=0.0, le=100.0)
    """Generated volumes for each training volume, the two classes equally many."""
    curve: tuple[Share, ...] = (0.25, 0.5, 0.75)
    """Shares of the training patients for the learning curve; the whole is its last point."""
    groups: tuple[Groups, ...] = ()
    margin: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Loss of AUC in a group, against real volumes alone, that would be tolerated."""
    relevant: float = Field(default=0.02, gt=0.0, lt=0.5)
    """Gain of AUC that would matter: without power for it the answer is "cannot tell"."""
    specificity: Share = 0.9
    """At which sensitivity is read."""

    @property
    def units(self) -> int:
        """Folds over all repeats, each a unit of the test."""
        return self.folds * self.repeats

    @property
    def digest(self) -> str:
        """Of everything that a result depends on beside the data."""
        content = self.model_dump(mode="json", exclude={"name", "relevant", "margin", "groups"})
        text = json.dumps([PROTOCOL, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path | str) -> Study:
    """Read and check the YAML file of a study.

    Raises:
        BadFile, UnsafeFile: the file cannot be read, or is not YAML.
        ConfigError: a key or value that cannot be, or arms without equally many trials.
    """
    study = checked(Study, read_mapping(path), where=str(path))
    require_sound(study, str(path))
    return study


def require_sound(study: Study, where: str) -> None:
    """Raise ConfigError for settings that cannot work together."""
    if len(set(study.arms)) < len(study.arms):
        raise ConfigError(f"{where}: arms: one is named twice in {', '.join(study.arms)}")
    if "real" not in study.arms:
        raise ConfigError(f"{where}: arms: 'real' is what the others are held against; add it")
    if not set(study.arms) & set(GAN_ARMS):
        raise ConfigError(f"{where}: arms: none takes generated volumes; add 'gan'")
    for arm in study.arms:
        partner = PARTNER.get(arm)
        if partner is not None and partner not in study.arms:
            raise ConfigError(
                f"{where}: arms: {arm!r} needs {partner!r}, the same training without generated "
                "volumes; add it"
            )
    counts = {arm: len(study.trials.of(arm)) for arm in study.arms}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        told = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        raise ConfigError(f"{where}: trials: every arm gets equally many, at least 1; got {told}")
    for arm, most in (("oversampled", 1.0), ("gan", 1.0), ("gan+classic", 1.0)):
        if arm in study.arms and max(study.trials.of(arm)) > most:
            raise ConfigError(f"{where}: trials.{arm}: a share is at most 1")
    if study.run.translates or not study.run.data.conditional:
        raise ConfigError(
            f"{where}: run: a study needs classes: data.conditional: true, and a generator of them "
            "(gan.variant adversarial)"
        )
    if study.run.data.sampling != "whole":
        raise ConfigError(f"{where}: run.data.sampling: 'whole' is meant, a volume has one label")
