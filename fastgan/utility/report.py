"""The report of a study: a page that needs nothing beside it, and the same in lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from fastgan.pictures.html import template
from fastgan.terminal import counted
from fastgan.utility.conclude import Conclusion
from fastgan.utility.metrics import METRICS
from fastgan.utility.settings import GAN_ARMS, PARTNER
from fastgan.utility.verdicts import said_of_worth
from fastgan.utility.work import TSTR, Task

__all__ = ["page", "text"]

ANSWERS = {
    "helps": "Yes, on these patients: it does better than every way without a GAN.",
    "no evidence that it helps": "There is no reason to: no gain was found, and one that matters "
    "would have been.",
    "harms": "No: it does harm.",
    "cannot tell": "Nobody can tell from these patients.",
}
REVERSED = "below 0.5, generated volumes of either class look more like the other one"


def page(task: Task, found: Conclusion) -> str:
    """HTML without scripts or references to anything outside it."""
    text: str = _template().render(
        answer=ANSWERS[found.verdict],
        found=found,
        study=task.study,
        patients=len(np.unique(task.cohort.subjects)),
        volumes=len(task.cohort),
        positive=int(task.cohort.positive.sum()),
        trained=int(np.mean([len(fold.fit) for fold in task.folds])),
        trained_positive=int(np.mean([task.cohort.positive[f.fit].sum() for f in task.folds])),
        trials=counted(len(task.study.trials.real), "trial"),
        metrics=METRICS,
        reversed=REVERSED,
        arms=list(_arms(task, found)),
        curve=list(_curve(task, found)),
        worths=[said_of_worth(one) for one in found.worths],
        diverged=[f"{n}: {line}" for n, one in found.scored.items() for line in one.diverged],
    )
    return text


def text(task: Task, found: Conclusion) -> str:
    """The same for a terminal, without the smaller tables."""
    lines = [f"{'arm':<14}" + "".join(f"{name:>13}" for name in METRICS)]
    lines += [
        f"{name:<14}" + "".join(f"{value:>13.3f}" for value in values)
        for name, values, _ in _arms(task, found)
    ]
    if found.trts is not None:
        told = f"; {REVERSED}" if found.trts < 0.5 else ""
        lines.append(
            f"trained on patients, tested on generated volumes: AUC {found.trts:.3f}{told}"
        )
    for arm, table in found.groups.items():
        for g in table.groups:
            bound = "" if g.low is None else f" {g.difference:+.3f} ({g.low:+.3f} to {g.high:+.3f})"
            needed = f", about {g.needed} patients would do" if g.needed else ""
            lines.append(f"{arm}, {g.column} {g.name}:{bound} {g.standing}{needed}")
    lines += [said_of_worth(one) for one in found.worths]
    lines += [
        f"{arm}, external patients: {d:+.3f} against {PARTNER[arm]} "
        f"(95 % {low:+.3f} to {high:+.3f})"
        for arm, (d, low, high) in found.external.items()
    ]
    lines += [f"diverged: {n}, {line}" for n, one in found.scored.items() for line in one.diverged]
    lines += [
        "",
        *(f"{j.arm}: {j.sentence}" for j in found.judgements),
        f"verdict: {found.verdict}",
    ]
    return "\n".join(lines)


def _arms(task: Task, found: Conclusion) -> Iterator[tuple[str, list[float], str]]:
    """(arm, means over folds, strengths chosen) in the order of the table."""
    for name in (*task.study.arms, TSTR):
        one = found.scored[name]
        chosen = "" if name == TSTR else ", ".join(f"{value:g}" for value in one.chosen)
        yield name, [float(one.metrics[key].mean()) for key in METRICS], chosen


def _curve(task: Task, found: Conclusion) -> Iterator[tuple[str, float, float]]:
    """(partner, patients trained on, AUC) of every point of the learning curves."""
    for partner in dict.fromkeys(PARTNER[arm] for arm in GAN_ARMS if arm in task.study.arms):
        for name in (*(f"{partner}-of{share:g}" for share in task.study.curve), partner):
            one = found.scored[name]
            yield partner, one.patients, float(one.metrics["AUC"].mean())


@cache
def _template() -> Any:
    return template(
        "fastgan.utility",
        "utility.html.j2",
        signed=lambda value: "–" if value is None else f"{value:+.3f}",
        three=lambda value: "–" if value is None else f"{value:.3f}",
    )
