"""Clean data for the tests of memorization."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence


@pytest.fixture(scope="session")
def clean(bodies: Callable[..., np.ndarray]) -> Evidence:
    """160 training and 80 held-out volumes, two of a subject, and 60 generated ones."""

    def cohort(name: str, count: int, seed: int, per_subject: int = 1) -> Cohort:
        subjects = np.array([f"{name}-{i // per_subject}" for i in range(count)])
        return Cohort(name, bodies(count, seed), subjects)

    return Evidence(
        cohort("training", 160, 0, 2),
        cohort("held-out", 80, 1, 2),
        cohort("generated", 60, 2),
        (1.0, 1.0, 1.0),
        modality="mask",
        augmentations=("flip",),
    )
