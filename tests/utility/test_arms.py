"""Arms differ in what they are fed, and in nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastgan.errors import NumericsError
from fastgan.utility.arms import Diet, diet_of, strength
from fastgan.utility.learners import coarse, learn
from fastgan.utility.settings import Arm, Learner
from tests.utility.studies import cohort, study

COHORT = cohort(60, np.random.default_rng(0))
REAL = (COHORT.values, COHORT.positive)
MADE = (np.full((10, 1, 4, 4, 4), 0.9, np.float32), np.arange(10) < 2)


def diet(arm: Arm, trial: float) -> Diet:
    return diet_of(arm, trial, REAL, MADE, study())


@pytest.mark.parametrize(
    ("arm", "trial", "generated", "positive"),
    [
        ("real", 0.2, 0.0, 1 / 3),
        ("oversampled", 0.0, 0.0, 1 / 3),
        ("oversampled", 1.0, 0.0, 0.5),
        ("classic", 2.0, 0.0, 0.5),
        ("gan", 0.25, 0.25, 0.5),
        ("gan+classic", 0.75, 0.75, 0.5),
    ],
)
def test_shares_of_what_is_drawn(arm: Arm, trial: float, generated: float, positive: float) -> None:
    made = diet(arm, trial)
    order = made.order(20_000, np.random.default_rng(0))
    assert made.generated[order].mean() == pytest.approx(generated, abs=0.01)
    assert made.positive[order].mean() == pytest.approx(positive, abs=0.012)
    assert made.drawn_prior == pytest.approx(positive)
    # Every volume has its turn.
    own = np.flatnonzero(~made.generated) if trial < 0.9 else order
    assert set(own.tolist()) <= set(order.tolist())


@pytest.mark.parametrize("arm", ["real", "oversampled", "classic", "gan", "gan+classic"])
def test_every_arm_has_equally_many_steps_of_equal_size(arm: Arm) -> None:
    batches = list(diet(arm, 0.5).batches(7, 5, np.random.default_rng(0)))
    assert len(batches) == 7
    assert {tuple(volumes.shape) for volumes, _ in batches} == {(5, 1, 4, 4, 4)}


def test_only_classic_arms_alter_volumes() -> None:
    plain = next(diet("oversampled", 1.0).batches(1, 8, np.random.default_rng(0)))
    altered = next(diet("classic", 1.0).batches(1, 8, np.random.default_rng(0)))
    known = {volume.tobytes() for volume in COHORT.values}
    assert all(volume.numpy().tobytes() in known for volume in plain[0])
    assert not any(volume.numpy().tobytes() in known for volume in altered[0])
    assert (strength(2.0).rotate, strength(2.0).flip) == (20.0, 0.5)


@pytest.mark.parametrize("kind", ["cnn", "block-means"])
def test_classifiers_learn_what_is_there_and_repeat_themselves(kind: str) -> None:
    clear = cohort(90, np.random.default_rng(1), effect=8.0)
    fed = diet_of("oversampled", 1.0, (clear.values, clear.positive), None, study())
    learner = Learner(kind=kind, steps=60, batch_size=8)  # type: ignore[arg-type]
    unseen = cohort(60, np.random.default_rng(2), effect=8.0)
    scores = learn(fed, learner, 1 / 3, np.random.default_rng(0))(unseen.values)
    assert scores[unseen.positive].mean() > scores[~unseen.positive].mean() + 1.0
    again = learn(fed, learner, 1 / 3, np.random.default_rng(0))(unseen.values)
    np.testing.assert_array_equal(scores, again)


def test_logits_are_moved_to_the_prior_of_the_patients() -> None:
    fed = diet("oversampled", 1.0)
    learner = Learner(kind="block-means", steps=20)
    even, rare = (
        learn(fed, learner, prior, np.random.default_rng(0))(COHORT.values) for prior in (0.5, 0.1)
    )
    np.testing.assert_allclose(even - rare, np.log(9.0))


def test_volumes_that_are_not_finite_are_an_arm_that_diverges() -> None:
    for kind in ("cnn", "block-means"):
        bad = (np.full_like(COHORT.values, np.nan), COHORT.positive)
        fed = diet_of("oversampled", 1.0, bad, None, study())
        learner = Learner(kind=kind, steps=2)  # type: ignore[arg-type]
        with pytest.raises(NumericsError):
            learn(fed, learner, 0.5, np.random.default_rng(0))


def test_coarse_blocks_are_means() -> None:
    values = torch.arange(2 * 8 * 8 * 8).reshape(1, 2, 8, 8, 8).float()
    wanted = torch.nn.functional.avg_pool3d(values, 2).reshape(1, -1)
    np.testing.assert_allclose(coarse(values.numpy()), wanted)
    assert coarse(np.zeros((3, 1, 2, 9, 4))).shape == (3, 2 * 4 * 4)
