"""The work of a fold, unit by unit: generators, strengths, classifiers; each is done once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.statistics import auc
from fastgan.durable import sweep_partials
from fastgan.errors import NumericsError, StateError
from fastgan.random import Draws
from fastgan.train.lock import hold
from fastgan.utility.arms import WEIGHT_DECAY, Diet, diet_of
from fastgan.utility.cohort import Cohort
from fastgan.utility.coverage import covered
from fastgan.utility.folds import Fold, deal, inner_splits, smaller
from fastgan.utility.generators import Generated, Make, kept
from fastgan.utility.learners import Reader, learn
from fastgan.utility.settings import GAN_ARMS, PARTNER, Arm, Study
from fastgan.utility.store import Store

__all__ = ["Task", "names_of_results", "run_fold"]

TSTR = "tstr"
"""Trained on generated volumes alone, tested on patients."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What every unit of a study needs."""

    study: Study
    cohort: Cohort
    external: Cohort | None
    folds: tuple[Fold, ...]
    store: Store
    make: Make
    say: Say

    @classmethod
    def of(
        cls,
        study: Study,
        cohort: Cohort,
        external: Cohort | None,
        store: Store,
        make: Make,
        say: Say = lambda line: None,
    ) -> Task:
        """The task of a study, its patients dealt to folds."""
        folds = tuple(deal(cohort, study))
        return cls(study, cohort, external, folds, store, make, say)

    @property
    def share(self) -> float:
        """Patients tested for each one trained on, as the corrected t needs it."""
        who = self.cohort.subjects
        tested = [len(np.unique(who[fold.test])) for fold in self.folds]
        return sum(tested) / sum(len(np.unique(who[fold.fit])) for fold in self.folds)

    @property
    def spacing(self) -> Sequence[float]:
        """Millimetres along D, H, W."""
        return (1.0, 1.0, 1.0) if self.cohort.dataset is None else self.cohort.dataset.spacing

    def real(self, at: Integers) -> tuple[Floats, Bools]:
        """Volumes and classes at these positions."""
        return self.cohort.values[at], self.cohort.positive[at]

    def rng(self, fold: int, purpose: str) -> np.random.Generator:
        """Random numbers of a unit; arms share them, so that they differ by their volumes alone."""
        return Draws(self.study.seed).numpy(fold, f"utility/{purpose}")


def names_of_results(study: Study) -> list[str]:
    """Every classifier that a fold trains, tuning left out: the names of its units."""
    names = [f"{arm}-seed{s}" for s in range(study.seeds) for arm in study.arms]
    names += [f"{TSTR}-seed{s}" for s in range(study.seeds)]
    partners = [PARTNER[arm] for arm in GAN_ARMS if arm in study.arms]
    return names + [
        f"{arm}-of{share:g}-seed{s}"
        for s in range(study.seeds)
        for share in study.curve
        for arm in partners
    ]


def run_fold(task: Task, fold: Fold) -> None:
    """Do what is not done of a fold.

    Raises:
        StateError: another process is at it.
    """
    folder = task.store.fold(fold.number)
    missing = [n for n in names_of_results(task.study) if task.store.read(fold.number, n) is None]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder):
        sweep_partials(folder)
        generated = _generated(task, fold)
        chosen = {arm: _tuned(task, fold, arm) for arm in task.study.arms}
        for name in missing:
            begun = time.monotonic()
            unit = task.store.once(
                fold.number,
                name,
                lambda n=name: _result(task, fold, n, chosen, generated),  # type: ignore[misc]
            )
            took = f"{time.monotonic() - begun:.1f} s"
            task.say(f"fold {fold.number} {name}: {unit.get('diverged') or took}")


def _generated(task: Task, fold: Fold) -> Generated | None:
    """The outer generator's volumes; None where it diverged."""
    made, _ = _made(task, fold, fold.fit, 0)
    if made is not None:
        task.store.once(
            fold.number,
            "coverage",
            lambda: covered(task.cohort, fold, made, task.rng(fold.number, "coverage")),
        )
    return made


def _made(task: Task, fold: Fold, at: Integers, number: int) -> tuple[Generated | None, str]:
    """Volumes of a generator trained at these positions of a fold, or why there are none.

    Whom it must not see: everybody who is tested, in this fold or outside, and everybody who is
    not among those it is given.
    """
    unseen = set(task.cohort.subjects.tolist()) - set(task.cohort.subjects[at].tolist())
    unseen |= set(task.cohort.subjects[fold.test].tolist())
    if task.external is not None:
        unseen |= set(task.external.subjects.tolist())
    name = f"generator-{number}"
    folder = task.store.fold(fold.number) / name
    file = folder / "generated.npz"
    seed = fold.number * (1 + task.study.inner.splits) + number

    def train() -> Generated:
        return task.make(task.study, task.cohort, at, frozenset(unseen), folder, seed)

    def work() -> dict[str, Any]:
        task.say(f"fold {fold.number} {name}: training")
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        try:
            made = kept(file, task.cohort, train)
        except NumericsError as error:
            return {"diverged": str(error)}
        return {"volumes": len(made.positive), "seconds": time.monotonic() - begun}

    known = task.store.once(fold.number, name, work)
    if "diverged" in known:
        return None, str(known["diverged"])
    if not file.exists():
        raise StateError(f"{file}: is gone; delete {folder}.json, too, and it is made anew")
    return kept(file, task.cohort, train), ""


def _tuned(task: Task, fold: Fold, arm: Arm) -> float:
    """The trial of an arm that does best on patients of the training part."""

    def work() -> dict[str, Any]:
        found = []
        splits = inner_splits(task.cohort, fold.fit, task.study, fold.number)
        for number, (at, to_choose) in enumerate(splits):
            generated, reason = None, ""
            if arm in GAN_ARMS:
                generated, reason = _made(task, fold, at, number + 1)
            for trial in task.study.trials.of(arm):
                rng = task.rng(fold.number, f"inner/{number}")
                if reason:
                    found.append([trial, 0.0])
                    continue
                try:
                    diet = _diet(task, arm, trial, at, generated)
                    read = learn(diet, task.study.learner, 0.5, rng)
                    score = _finite(read(task.cohort.values[to_choose]))
                    found.append([trial, auc(score, task.cohort.positive[to_choose])])
                except NumericsError:
                    found.append([trial, 0.0])
        return {"arm": arm, "trials": found, "chosen": _best(found)}

    trials = task.study.trials.of(arm)
    if len(trials) == 1:
        return trials[0]
    unit = task.store.once(fold.number, f"tuning-{arm}", work)
    return float(unit["chosen"])


def _best(found: Sequence[Sequence[float]]) -> float:
    """The trial of the best mean; of equal ones the first."""
    trials = list(dict.fromkeys(trial for trial, _ in found))
    means = [float(np.mean([score for t, score in found if t == trial])) for trial in trials]
    return trials[int(np.argmax(means))]


def _diet(task: Task, arm: Arm, trial: float, at: Integers, generated: Generated | None) -> Diet:
    """What an arm trains on; NumericsError where its generator diverged."""
    if arm in GAN_ARMS and generated is None:
        raise NumericsError("its generator diverged")
    pair = None if generated is None else (generated.values, generated.positive)
    return diet_of(arm, trial, task.real(at), pair, task.study, task.spacing)


def _result(
    task: Task, fold: Fold, name: str, chosen: dict[Arm, float], generated: Generated | None
) -> dict[str, Any]:
    """One classifier: its scores on the test part and outside, or that it diverged."""
    arm, _, seed = name.rpartition("-seed")
    arm, _, share = arm.partition("-of")
    at = fold.fit
    if share:
        rng = task.rng(fold.number, f"curve/{share}/{seed}")
        at = smaller(task.cohort, at, float(share), rng)
    unit: dict[str, Any] = {"arm": arm, "patients": len(np.unique(task.cohort.subjects[at]))}
    try:
        if arm == TSTR:
            diet = _generated_alone(generated)
        else:
            unit["trial"] = chosen[arm]  # type: ignore[index]
            diet = _diet(task, arm, unit["trial"], at, generated)  # type: ignore[arg-type]
        prior = float(task.cohort.positive[fold.train].mean())
        rng = task.rng(fold.number, f"seed/{seed}")
        read = learn(diet, task.study.learner, prior, rng)
        unit["logits"] = _finite(read(task.cohort.values[fold.test])).tolist()
        if task.external is not None and not share:
            unit["external"] = _finite(read(task.external.values)).tolist()
        reads = "oversampled" if "oversampled" in task.study.arms else "real"
        if generated is not None and not share and arm == reads:
            unit["trts"] = _on_generated(read, generated)
    except NumericsError as error:
        for key in ("logits", "external", "trts"):
            unit.pop(key, None)
        unit["diverged"] = str(error)
    return unit


def _generated_alone(generated: Generated | None) -> Diet:
    if generated is None:
        raise NumericsError("its generator diverged")
    everything = np.ones(len(generated.positive), bool)
    return Diet(
        generated.values, generated.positive, everything, 1.0, 0.5, weight_decay=WEIGHT_DECAY
    )


def _on_generated(read: Reader, generated: Generated) -> float:
    return auc(_finite(read(generated.values)), generated.positive)


def _finite(logits: Floats) -> Floats:
    if not np.isfinite(logits).all():
        raise NumericsError("its scores are not finite")
    return logits
