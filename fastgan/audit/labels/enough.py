"""How many volumes, or patients, would it take until something can be said of generated labels?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastgan.arrays import Integers
from fastgan.audit.labels.noise import Clear, Reader

__all__ = ["enough"]

TIMES = (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""How many times as many, up to which it is advice."""

Answered = Callable[[Reader, Clear], bool]
"""Whether readings of patients and of generated volumes lead to a verdict."""


def enough(real: Reader, made: Clear, patients: int, answered: Answered) -> str:
    """What would do if shares stayed as they are, in words: more volumes, else more patients too.

    Args:
        real: how patients are read.
        made: how generated volumes are read.
        patients: how many there are.
        answered: tried on larger numbers.
    """
    volumes = int(made.counts.sum())
    for times in TIMES:
        if answered(real, _more_volumes(made, times)):
            return f"generate about {_rounded(times * volumes):,} volumes"
    for times in TIMES:
        if answered(_more_patients(real, times), _more_volumes(made, times)):
            return (
                f"about {_rounded(times * patients):,} patients instead of {patients:,}, and "
                f"{_rounded(times * volumes):,} generated volumes"
            )
    return (
        f"no number up to {TIMES[-1]:g} times as many would do, as the classifier misreads "
        f"{real.misread.max():.0%} of the patients that it reads clearly; classes that are easier "
        "to read, or labels with fewer errors"
    )


def _more_volumes(made: Clear, times: float) -> Clear:
    return Clear(*(_scaled(column, times) for column in (made.counts, made.clear, made.disagree)))


def _scaled(column: Integers, times: float) -> Integers:
    out: Integers = np.rint(column * times).astype(np.int64)
    return out


def _more_patients(real: Reader, times: float) -> Reader:
    return replace(
        real,
        unclear_size=real.unclear_size * times,
        misread_size=real.misread_size * times,
        taken_size=real.taken_size * times,
    )


def _rounded(count: float) -> int:
    """Up to two digits."""
    step = 10 ** max(0, len(str(int(count))) - 2)
    return int(-(-count // step) * step)
