"""Patients, generated volumes and networks whose knowledge of memberships is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Insider
from fastgan.audit.membership import planted
from fastgan.errors import AuditError

SHAPE = (6, 6, 6)


@pytest.fixture
def all_splits() -> None:
    """Asks for as many random splits as an audit makes."""


@pytest.fixture(autouse=True)
def few_splits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the work of the control by random splits, where a test is of something else."""
    if "all_splits" not in request.fixturenames:
        monkeypatch.setattr(planted, "SPLITS", 19)
        monkeypatch.setattr(planted, "SPLIT_RUNS", 5)


def volumes(count: int, seed: int) -> np.ndarray:
    """Smooth fields with noise: kinds of their own, none a near copy of another."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 2, 2, 2)).repeat(3, 1).repeat(3, 2).repeat(3, 3)
    fine = rng.standard_normal((count, *SHAPE))
    return np.clip(0.25 * coarse + 0.15 * fine, -1, 1).astype(np.float32)


def cohort(name: str, patients: int, seed: int, each: int = 1) -> Cohort:
    """Volumes of patients, 1 to `each` of everybody."""
    counts = np.random.default_rng(seed + 1000).integers(1, each + 1, patients)
    names = np.repeat([f"{name}-{i}" for i in range(patients)], counts)
    return Cohort(name, volumes(len(names), seed), names)


@pytest.fixture(scope="session")
def clean() -> Callable[..., Evidence]:
    """(trained, held, seed, each, generated) -> evidence of a generator that knows nobody."""

    def make(
        trained: int = 120, held: int = 80, seed: int = 0, each: int = 1, generated: int = 80
    ) -> Evidence:
        return Evidence(
            cohort("training", trained, 3 * seed, each),
            cohort("held-out", held, 3 * seed + 1, each),
            cohort("generated", generated, 3 * seed + 2),
            (1.0, 1.0, 1.0),
        )

    return make


def leaking(evidence: Evidence, pull: float) -> Evidence:
    """The same with every generated volume pulled towards a training volume."""
    made, known = evidence.require_generated(), evidence.training.values
    drawn = known[np.random.default_rng(9).integers(0, len(known), len(made))]
    return replace(
        evidence,
        generated=replace(made, values=(1 - pull) * made.values + pull * drawn),
    )


class Networks:
    """Networks that score by what they were given, and by nothing where they were given nobody.

    Args:
        known: volumes that were trained on.
        critic: deviations by which the critic raises those it knows.
        inverse: share of the distance that inversion leaves of those it knows.
        learns: whether training on a few volumes makes a critic that knows them.
    """

    def __init__(
        self,
        known: np.ndarray,
        *,
        critic: float = 0.0,
        inverse: float = 1.0,
        learns: bool = True,
        conditional: bool = False,
        seconds: float = 1.0,
    ) -> None:
        self.known = {volume.tobytes() for volume in known}
        self.raised, self.left, self.learns = critic, inverse, learns
        self.conditional, self.seconds = conditional, seconds

    def __call__(self) -> Insider:
        return Insider(self.critic, self.inverse, self.overtrained, self.blank)

    def _known(self, values, labels) -> np.ndarray:
        if self.conditional and labels is None:
            raise AuditError("the networks are conditional, and the volumes have no labels")
        return np.array([volume.tobytes() in self.known for volume in values])

    def _noise(self, values, scale: int) -> np.ndarray:
        """A number of each volume, that says nothing of its patient."""
        seeds = [np.frombuffer(v.tobytes(), np.uint32).sum() % 2**31 for v in values]
        return np.array([np.random.default_rng([scale, int(s)]).standard_normal() for s in seeds])

    def critic(self, values, labels):
        return self._noise(values, 0) + self.raised * self._known(values, labels)

    def inverse(self, values, labels):
        left = np.where(self._known(values, labels), self.left, 1.0)
        return 0.1 * left * np.exp(0.1 * self._noise(values, 1))

    def overtrained(self, values, labels, seconds):
        if self.seconds > seconds:
            raise AuditError("training the critic on few patients would take about 90 minutes here")
        return Networks(values, critic=6.0 if self.learns else 0.0).critic

    def blank(self, values, labels):
        return self._noise(values, 2)


def known_by(evidence: Evidence, **how) -> Evidence:
    """The same with networks that know the training volumes, as `Networks` says."""
    return replace(evidence, insider=Networks(evidence.training.values, **how))
