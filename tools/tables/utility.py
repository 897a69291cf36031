"""Tables of utility studies: how often they are wrong, what they find, and what one found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastgan.terminal import counted
from tools.tables.markdown import table

__all__ = ["RENDERERS"]

# What is counted, its nominal share in percent (of one study), and how it is told.
SIZES = {
    "helps": ("2.5 %", "an arm helps"),
    "harms": ("2.5 %", "an arm harms"),
    "a group is harmed": ("1.25 %", "an arm harms one of five groups"),
    "one comparison, corrected": ("5 %", "two arms differ, corrected resampled t"),
    "paired t": ("5 %", "the same, plain paired t of the folds"),
    "seeds as folds": ("5 %", "the same, plain paired t of folds times seeds"),
}


def _rate(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['share']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def size(files: list[Any]) -> list[str]:
    """Shares of studies without an effect that say there is one."""
    rows = []
    for name, (nominal, told) in SIZES.items():
        rows.append([told, nominal, *(_rate(one[name]) for one in files[0]["size"])])
    head = [f"{one['folds']} folds, {counted(one['seeds'], 'seed')}" for one in files[0]["size"]]
    return table(["a study without an effect says", "promised at most", *head], rows)


def power(files: list[Any]) -> list[str]:
    """Shares of studies that find a gain, by the gain."""
    rows = [
        [f"{one['folds']}", f"{one['auc_gained']:+.3f}", _rate(one)] for one in files[0]["power"]
    ]
    return table(["folds", "AUC gained", "says that it helps"], rows)


def groups(files: list[Any]) -> list[str]:
    """Shares of studies that name the group that loses."""
    rows = [
        [f"{one['auc_lost']:.2f}", *(_rate(one[name]) for name in ("named", "another", "passed"))]
        for one in files[0]["groups"]
    ]
    return table(["AUC lost in a third", "named", "another one named", "passed as not worse"], rows)


def arms(files: list[Any]) -> list[str]:
    """Every arm of a study, means over folds."""
    rows = [
        [name, *(f"{np.mean(one[key]):.3f}" for key in ("AUC", "sensitivity", "Brier", "ECE"))]
        for name, one in files[0]["arms"].items()
        if "-of" not in name
    ]
    return table(["arm", "AUC", "sensitivity", "Brier", "ECE"], rows)


def gains(files: list[Any]) -> list[str]:
    """Arms with a GAN against those without."""
    rows = []
    for judgement in files[0]["judgements"]:
        for one in judgement["comparisons"]:
            d = one["difference"]
            low, high = d["interval"]
            rows.append(
                [
                    one["arm"],
                    one["other"],
                    f"{d['mean']:+.3f}",
                    f"{low:+.3f} to {high:+.3f}",
                    f"{one['detectable']:.3f}",
                ]
            )
    return table(["arm", "against", "AUC gained", "95 %", "would be found"], rows)


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "utility_size": size,
    "utility_power": power,
    "utility_groups": groups,
    "utility_arms": arms,
    "utility_gains": gains,
}
