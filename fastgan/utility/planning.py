"""Before a study starts: what it could see, and how long it will take."""

from __future__ import annotations

import io
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastgan.random import Draws
from fastgan.train import describe, fit
from fastgan.train.build import variant_of
from fastgan.train.progress import Progress, clock
from fastgan.utility.arms import diet_of
from fastgan.utility.corrected_t import detectable
from fastgan.utility.folds import Fold, inner_splits
from fastgan.utility.learners import learn
from fastgan.utility.settings import GAN_ARMS
from fastgan.utility.verdicts import ALPHA
from fastgan.utility.work import Task, names_of_results

__all__ = ["foreseen", "seconds_left"]

SUPPOSED_AUC, SUPPOSED_CORRELATION = 0.75, 0.8
"""Of a simple arm, and between arms that read the same patients."""
TRIED = 8
"""Steps of a classifier that are timed, after one that is not."""


def foreseen(task: Task) -> str:
    """The gain that the study could find, said before anything is trained.

    The variance of an AUC is Hanley and McNeil's for the patients of a fold.
    """
    study = task.study
    gans = sum(arm in GAN_ARMS for arm in study.arms)
    counts = [task.cohort.positive[fold.test] for fold in task.folds]
    positive = float(np.mean([c.sum() for c in counts]))
    negative = float(np.mean([(~c).sum() for c in counts]))
    a = SUPPOSED_AUC
    q1, q2 = a / (2.0 - a), 2.0 * a * a / (1.0 + a)
    variance = a * (1 - a) + (positive - 1) * (q1 - a * a) + (negative - 1) * (q2 - a * a)
    variance /= positive * negative
    deviation = math.sqrt(2.0 * (1.0 - SUPPOSED_CORRELATION) * variance)
    least = detectable(deviation, len(task.folds), task.share, ALPHA / 2.0 / max(gans, 1))
    seen = f"a gain of {least:.3f} AUC" if least < 1.0 - a else "no gain that is possible"
    return (
        f"{len(task.folds)} folds, {positive:.0f} positive and {negative:.0f} negative volumes "
        f"tested in each: {seen} would be found with a power of 80 % (supposing "
        f"AUC {a:g} and arms correlated {SUPPOSED_CORRELATION:g}); {study.relevant:g} is asked for"
    )


def seconds_left(task: Task, folds: Sequence[Fold]) -> float:
    """Seconds that what is not done of these folds will probably take on this machine.

    A few steps of each kind of training are made and timed.
    """
    study, fold = task.study, task.folds[0]
    names = names_of_results(study)
    left = {f.number: [n for n in names if task.store.read(f.number, n) is None] for f in folds}
    open_folds = [f for f in folds if left[f.number]]
    if not open_folds:
        return 0.0
    step = {kind: _classifier_step(task, kind) for kind in ("oversampled", "classic")}
    augmented = ("classic", "gan+classic")
    total = sum(
        step["classic" if n.split("-seed")[0].split("-of")[0] in augmented else "oversampled"]
        for names in left.values()
        for n in names
    )
    for f in open_folds:
        for arm in study.arms:
            count = len(study.trials.of(arm))
            if count > 1 and task.store.read(f.number, f"tuning-{arm}") is None:
                kind = "classic" if arm in augmented else "oversampled"
                total += step[kind] * count * study.inner.splits
    total *= study.learner.steps
    if task.cohort.dataset is None:
        return total
    numbers = range(1 + study.inner.splits)
    needed = sum(
        task.store.read(f.number, f"generator-{number}") is None
        for f in open_folds
        for number in (numbers if len(study.trials.gan) > 1 else [0])
    )
    at, _ = inner_splits(task.cohort, fold.fit, study, fold.number)[0]
    return total + needed * study.run.train.steps * (_gan_step(task, at) if needed else 0.0)


def _classifier_step(task: Task, kind: str) -> float:
    """Seconds of a step of one arm's classifier."""
    real = task.real(task.folds[0].fit)
    diet = diet_of(kind, 1.0, real, None, task.study, task.spacing)  # type: ignore[arg-type]
    took = []
    for steps in (1, 1, 1 + TRIED):  # the first is not counted
        learner = task.study.learner.model_copy(update={"steps": steps})
        begun = time.perf_counter()
        learn(diet, learner, 0.5, Draws(0).numpy(0, "utility/time"))
        took.append(time.perf_counter() - begun)
    return max(took[2] - took[1], 0.0) / TRIED


def _gan_step(task: Task, at: np.ndarray) -> float:
    """Seconds of a step of the generator's training, by short runs that are thrown away."""
    assert task.cohort.dataset is not None
    dataset = task.cohort.dataset.subset(at.tolist())
    settings = task.study.run.model_copy(deep=True)
    took = []
    for steps in (2, 2 + TRIED):
        settings.train.steps = steps
        with tempfile.TemporaryDirectory() as folder:
            variant = variant_of(settings, describe(dataset))
            begun = time.perf_counter()
            quiet = Progress(steps, stream=io.StringIO())
            fit(variant, dataset, settings, out=Path(folder), command=["fastgan"], progress=quiet)
            took.append(time.perf_counter() - begun)
    return max(took[1] - took[0], 0.0) / TRIED


def shown(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> shown(3725)
    '1:02:05'
    """
    return clock(seconds)
