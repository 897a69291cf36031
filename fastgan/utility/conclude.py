"""The whole answer of a study, made from its finished units alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import fastgan
from fastgan.arrays import Floats
from fastgan.audit.statistics import bootstrap_interval
from fastgan.random import Draws
from fastgan.utility.cohort import bands, in_order
from fastgan.utility.gather import Scored, gather, trts
from fastgan.utility.metrics import METRICS
from fastgan.utility.planning import foreseen
from fastgan.utility.settings import GAN_ARMS, PARTNER, Arm
from fastgan.utility.subgroups import GroupTable, judge_groups, pairwise
from fastgan.utility.verdicts import (
    ALPHA,
    Comparison,
    Judgement,
    Worth,
    compared,
    exit_code,
    judge,
    worth,
)
from fastgan.utility.work import TSTR, Task

__all__ = ["Conclusion", "conclude"]

SCHEMA = "fastgan-utility/1"


@dataclass(frozen=True)
class Conclusion:
    """What a study found.

    Attributes:
        judgements: one for each arm with generated volumes.
        scored: arm, `tstr` or point of the learning curve -> its numbers.
        groups: arm -> every group of every column.
        coverage: column, group, tested volumes, share with a patient near, share with a
            generated volume near.
        worths: in extra real patients.
        external: arm -> difference to its partner outside, with its 95 % interval.
        trts: mean AUC on generated volumes, of a classifier trained on patients.
        planned: what could have been seen, as it was said before.
        code: exit code.
    """

    judgements: tuple[Judgement, ...]
    scored: dict[str, Scored]
    groups: dict[Arm, GroupTable]
    coverage: tuple[tuple[str, str, int, float, float], ...]
    worths: tuple[Worth, ...]
    external: dict[Arm, tuple[float, float, float]]
    trts: float | None
    planned: str
    code: int

    @property
    def verdict(self) -> str:
        """The best that any arm with generated volumes comes to; of a harm only if none helps."""
        said = [j.verdict for j in self.judgements]
        order = ("helps", "harms", "cannot tell", "no evidence that it helps")
        return next((verdict for verdict in order if verdict in said), "cannot tell")


def conclude(task: Task) -> Conclusion:
    """Judge a finished study; a function of its units and settings alone.

    Raises:
        StateError: a fold is not finished.
    """
    study = task.study
    scored = gather(task)
    areas: dict[Arm, Floats] = {arm: scored[arm].metrics["AUC"] for arm in study.arms}
    comparisons = compared(areas, task.share)
    gans = [arm for arm in GAN_ARMS if arm in study.arms]
    groups = {arm: _groups(task, scored, arm, len(gans)) for arm in gans} if study.groups else {}
    diverged = {name: one.diverged for name, one in scored.items()}
    judgements = judge(comparisons, study.relevant, groups, diverged)
    return Conclusion(
        tuple(judgements),
        scored,
        groups,
        _coverage(task),
        tuple(_worth(scored, comparisons, arm, task.share, study.curve) for arm in gans),
        {arm: _outside(task, scored, arm) for arm in gans} if task.external is not None else {},
        trts(task),
        foreseen(task),
        exit_code(judgements),
    )


def _groups(task: Task, scored: dict[str, Scored], arm: Arm, arms: int) -> GroupTable:
    cohort = task.cohort
    named = _named_groups(task)
    return judge_groups(
        scored[arm].logits,
        scored["real"].logits,
        [cohort.positive[fold.test] for fold in task.folds],
        [cohort.subjects[fold.test] for fold in task.folds],
        {
            column: [[names[i] for i in fold.test] for fold in task.folds]
            for column, names in named.items()
        },
        margin=task.study.margin,
        level=ALPHA / 2.0 / arms,
        rng=Draws(task.study.seed).numpy(0, "utility/groups"),
    )


def _named_groups(task: Task) -> dict[str, list[str]]:
    """Column -> the group of every volume of the cohort."""
    return {g.column: bands(task.cohort.columns[g.column], g.cuts) for g in task.study.groups}


def _coverage(task: Task) -> tuple[tuple[str, str, int, float, float], ...]:
    """Per group and over all: volumes tested, and the shares that are covered."""
    units = {fold.number: task.store.read(fold.number, "coverage") for fold in task.folds}
    whole = [(fold, unit) for fold in task.folds if (unit := units[fold.number]) is not None]
    if not whole:
        return ()
    at = np.concatenate([fold.test for fold, _ in whole])
    real, made = (
        np.concatenate([np.array(unit[kind], float) for _, unit in whole])
        for kind in ("real", "generated")
    )
    rows = [("", "all", len(at), float(real.mean()), float(made.mean()))]
    for column, names in _named_groups(task).items():
        own = np.array([names[i] for i in at])
        for name in in_order(names):
            here = own == name
            if here.any():
                shares = float(real[here].mean()), float(made[here].mean())
                rows.append((column, name, int(here.sum()), *shares))
    return tuple(rows)


def _worth(
    scored: dict[str, Scored],
    comparisons: list[Comparison],
    arm: Arm,
    share: float,
    curve: tuple[float, ...],
) -> Worth:
    partner = PARTNER[arm]
    gain = next(c.difference for c in comparisons if (c.arm, c.other) == (arm, partner))
    names = [f"{partner}-of{part:g}" for part in curve] + [partner]
    points = [(scored[name].patients, scored[name].metrics["AUC"]) for name in names]
    return worth(arm, gain, points, share)


def _outside(task: Task, scored: dict[str, Scored], arm: Arm) -> tuple[float, float, float]:
    """Difference to the partner on the external patients, all folds' classifiers averaged."""
    assert task.external is not None
    truth, subjects = task.external.positive, task.external.subjects
    kernels = [
        np.mean([pairwise(one, truth) for one in scored[name].external], axis=0)
        for name in (arm, PARTNER[arm])
    ]
    order = np.cumsum(truth) - 1, np.cumsum(~truth) - 1

    def difference(drawn: Any) -> float:
        rows, columns = order[0][drawn[truth[drawn]]], order[1][drawn[~truth[drawn]]]
        if not len(rows) or not len(columns):
            return float("nan")
        first, second = (kernel[np.ix_(rows, columns)].mean() for kernel in kernels)
        return float(first - second)

    rng = Draws(task.study.seed).numpy(0, "utility/external")
    here = difference(np.arange(len(truth)))
    return (here, *bootstrap_interval(difference, subjects, rng))


def record(task: Task, found: Conclusion) -> dict[str, Any]:
    """The conclusion as JSON values."""
    return {
        "schema": SCHEMA,
        "software": f"fastgan {fastgan.__version__}",
        "key": task.store.key,
        "verdict": found.verdict,
        "exit_code": found.code,
        "planned": found.planned,
        "settings": task.study.model_dump(mode="json"),
        "cohort": {
            "volumes": len(task.cohort),
            "positive": int(task.cohort.positive.sum()),
            "patients": len(np.unique(task.cohort.subjects)),
            "external": 0 if task.external is None else len(np.unique(task.external.subjects)),
            "trained_volumes": [len(fold.fit) for fold in task.folds],
            "trained_positive": [int(task.cohort.positive[f.fit].sum()) for f in task.folds],
        },
        "judgements": [asdict(one) for one in found.judgements],
        "arms": {
            name: {
                **{key: [_plain(v) for v in one.metrics[key]] for key in METRICS},
                "patients": one.patients,
                "chosen": [_plain(v) for v in one.chosen],
                "diverged": list(one.diverged),
            }
            for name, one in found.scored.items()
        },
        "tstr": _plain(found.scored[TSTR].metrics["AUC"].mean()),
        "trts": found.trts,
        "groups": {arm: [asdict(g) for g in table.groups] for arm, table in found.groups.items()},
        "coverage": [list(row) for row in found.coverage],
        "worth": [{k: _plain(v) for k, v in asdict(one).items()} for one in found.worths],
        "external": {arm: list(values) for arm, values in found.external.items()},
    }


def _plain(value: Any) -> Any:
    """A JSON value; no number is None."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
