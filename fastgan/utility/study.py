"""A study from its file to its report: one fold of it, or whatever is missing and the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fastgan.durable import replace_file
from fastgan.errors import ConfigError
from fastgan.guarded import typed
from fastgan.utility.cohort import Cohort, open_cohort
from fastgan.utility.conclude import Conclusion, conclude, record
from fastgan.utility.folds import deal
from fastgan.utility.gather import missing_folds
from fastgan.utility.generators import Make, generated_by_gan
from fastgan.utility.planning import foreseen, seconds_left, shown
from fastgan.utility.report import page
from fastgan.utility.settings import Study
from fastgan.utility.store import open_store
from fastgan.utility.work import Task, run_fold

__all__ = ["conduct", "task_of"]


@typed("utility")
def conduct(
    study: Study,
    out: Path,
    *,
    fold: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Task, Conclusion] | None:
    """Run what is not done of a study, and write results.json and utility.html.

    Args:
        study: its settings.
        out: its folder, new or gone on with.
        fold: this one alone, without an answer.
        say: told what is done.

    Returns:
        The task and its conclusion; None with `fold`.

    Raises:
        ConfigError, AuditError: settings or data that allow no such study.
        StateError: the folder holds another study, or another process works on a fold.
    """
    task = task_of(study, out, say)
    if fold is not None and not 0 <= fold < len(task.folds):
        raise ConfigError(f"--fold: 0 to {len(task.folds) - 1} are there, got {fold}")
    say(foreseen(task))
    asked = [one for one in task.folds if fold in (None, one.number)]
    if set(missing_folds(task)) & {one.number for one in asked}:
        say(f"about {shown(seconds_left(task, asked))} of work left, if this machine is idle")
    for one in asked:
        run_fold(task, one)
    if fold is not None:
        say(f"fold {fold} is finished; missing: {_listed(missing_folds(task))}")
        return None
    found = conclude(task)
    replace_file(out / "utility.html", page(task, found).encode())
    # Last: a program that finds it finds the rest.
    content = json.dumps(record(task, found), indent=1, allow_nan=False)
    replace_file(out / "results.json", content.encode() + b"\n")
    return task, found


def task_of(
    study: Study, out: Path, say: Callable[[str], None], make: Make = generated_by_gan
) -> Task:
    """The patients, the folds and the folder of a study.

    Raises:
        ConfigError: a group's column that no volume has.
        as `open_cohort`, `deal` and `open_store`.
    """
    cohort, external = open_cohort(study, cache_dir=out.parent / "cache")
    _require_columns(study, cohort)
    deal(cohort, study)  # refuses before a folder is made
    store = open_store(out, study, cohort, external)
    return Task.of(study, cohort, external, store, make, say)


def _require_columns(study: Study, cohort: Cohort) -> None:
    for group in study.groups:
        if group.column not in cohort.columns:
            raise ConfigError(
                f"groups: no volume has {group.column!r}; known: "
                f"{', '.join(cohort.columns) or 'none'}"
            )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
