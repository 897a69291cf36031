"""Finished units become tables: every arm's scores by fold and seed, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats
from fastgan.errors import StateError
from fastgan.utility.metrics import METRICS, measure
from fastgan.utility.settings import GAN_ARMS, PARTNER
from fastgan.utility.work import TSTR, Task, names_of_results

__all__ = ["Scored", "gather", "missing_folds", "trts"]


@dataclass(frozen=True)
class Scored:
    """One kind of classifier over all folds and seeds.

    Attributes:
        logits: for each fold [seeds, volumes tested]; a diverged one says 0 of all.
        external: likewise of the external patients, if there are any.
        metrics: name -> [folds] mean over seeds.
        patients: mean number that it was trained on.
        diverged: how often, and why the first time.
        chosen: value of its strength in each fold.
    """

    logits: tuple[Floats, ...]
    external: tuple[Floats, ...]
    metrics: dict[str, Floats]
    patients: float
    diverged: tuple[str, ...]
    chosen: tuple[float, ...]


def missing_folds(task: Task) -> list[int]:
    """Numbers of the folds that are not finished."""
    names = names_of_results(task.study)
    return [
        fold.number
        for fold in task.folds
        if any(task.store.read(fold.number, name) is None for name in names)
    ]


def gather(task: Task) -> dict[str, Scored]:
    """Every arm, `tstr` and the points of the learning curve (`oversampled-of0.5`), by name.

    Raises:
        StateError: a fold is not finished.
    """
    study = task.study
    kinds: list[str] = [*study.arms, TSTR]
    partners = [PARTNER[arm] for arm in GAN_ARMS if arm in study.arms]
    kinds += [f"{arm}-of{share:g}" for share in study.curve for arm in partners]
    return {kind: _scored(task, kind) for kind in kinds}


def trts(task: Task) -> float | None:
    """Mean AUC, on generated volumes, of a classifier trained on patients; None without one."""
    found = []
    for fold in task.folds:
        for seed in range(task.study.seeds):
            for arm in ("oversampled", "real"):
                unit = task.store.read(fold.number, f"{arm}-seed{seed}")
                if unit is not None and "trts" in unit:
                    found.append(float(unit["trts"]))
    return float(np.mean(found)) if found else None


def _scored(task: Task, kind: str) -> Scored:
    logits, external, rows, patients, diverged, chosen = [], [], [], [], [], []
    for fold in task.folds:
        truth = task.cohort.positive[fold.test]
        seeds, outside = [], []
        for seed in range(task.study.seeds):
            unit = task.store.read(fold.number, f"{kind}-seed{seed}")
            if unit is None:
                raise StateError(
                    f"{task.store.path}: fold {fold.number} is not finished: {kind}-seed{seed} is "
                    f"missing; run it with --fold {fold.number}, or all without --fold"
                )
            if "diverged" in unit:
                diverged.append(f"fold {fold.number}, seed {seed}: {unit['diverged']}")
            seeds.append(_read(unit.get("logits"), len(truth)))
            if task.external is not None:
                outside.append(_read(unit.get("external"), len(task.external)))
            patients.append(float(unit["patients"]))
        logits.append(np.stack(seeds))
        if outside:
            external.append(np.stack(outside))
        rows.append(_mean(seeds, truth, task.study.specificity))
        chosen.append(float(unit.get("trial", np.nan)) if unit else np.nan)
    metrics = {name: np.array([row[name] for row in rows]) for name in METRICS}
    return Scored(
        tuple(logits),
        tuple(external),
        metrics,
        float(np.mean(patients)),
        tuple(diverged),
        tuple(chosen),
    )


def _read(values: list[float] | None, count: int) -> Floats:
    # A classifier that diverged says nothing: chance, which counts against its arm.
    return np.zeros(count) if values is None else np.array(values, np.float64)


def _mean(seeds: Sequence[Floats], truth: Bools, specificity: float) -> dict[str, float]:
    each = [measure(logits, truth, specificity) for logits in seeds]
    return {name: float(np.mean([one[name] for one in each])) for name in METRICS}
