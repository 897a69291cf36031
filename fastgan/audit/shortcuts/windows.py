"""Windows of each volume's own make shortcuts: the same volumes under one window tell them apart.

A bright lesion raises the upper percentile of its volume, and all else, the border among it, grows
darker. That is real for whoever trains on these volumes, and gone under one window of the set.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastgan.audit.evidence import Cohort

__all__ = ["common_window", "made_by_windows", "under_one_window"]

_REACH = 0.05  # of the windows, whose ends may lie within the common one


def common_window(cohort: Cohort) -> tuple[float, float] | None:
    """The units that almost all volumes show without clipping; None if there are none such."""
    if cohort.windows is None or not len(cohort):
        return None
    low = float(np.quantile(cohort.windows[:, 0], 1 - _REACH))
    high = float(np.quantile(cohort.windows[:, 1], _REACH))
    return (low, high) if low < high else None


def under_one_window(cohort: Cohort) -> Cohort | None:
    """The volumes under the window that they share; None where they have none of their own.

    What lies outside is clipped in all of them, so nothing of a volume's own window is left.
    """
    window = common_window(cohort)
    if window is None or cohort.windows is None:
        return None
    low, high = (cohort.windows[:, end, None, None, None] for end in (0, 1))
    units = low + (cohort.values + 1) / 2 * (high - low)
    values = np.clip(2 * (units - window[0]) / (window[1] - window[0]) - 1, -1, 1)
    return replace(cohort, values=values.astype(np.float32), windows=None)


def made_by_windows(cohort: Cohort, p: float) -> str:
    """What to say of a shortcut that one window takes away, with the p-value that is left."""
    low, high = common_window(cohort) or (0.0, 0.0)
    return (
        f"Each volume has a window of its own, and under one window of all next to nothing is "
        f"left of it (p = {p:.2g}): normalisation made this shortcut, bright lesions darken the "
        f"rest. It is real for a network; set data.window (say, {low:.4g} to {high:.4g}) and train "
        "again."
    )
