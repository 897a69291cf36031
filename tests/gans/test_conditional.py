"""Labels in the game: whose they are, what is counted by class, what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.gans import AdversarialGAN, LabelPrior
from fastgan.random import Draws
from tests.gans.small_game import CONDITIONAL, SHAPE, batches, step, variant


def test_class_metrics_add_up_and_absent_classes_are_nan() -> None:
    gan = variant(classes=("a", "b", "c"), prior=(1, 1, 1))
    labels = torch.tensor([0, 0, 2, 0])
    _, metrics = gan.critic_loss(
        torch.randn(4, 1, *SHAPE), torch.randn(4, 4), labels, rng=np.random.default_rng(0)
    )
    mean = 0.75 * metrics["score_gap/a"] + 0.25 * metrics["score_gap/c"]
    torch.testing.assert_close(mean, metrics["wasserstein"])
    assert math.isnan(metrics["score_gap/b"])


def labels_seen(gan: AdversarialGAN) -> dict[str, list[int]]:
    """Labels the generator and the critic are given in one step."""
    seen: dict[str, list[int]] = {"generator": [], "critic": []}
    for name, module in gan.modules.items():
        module.register_forward_pre_hook(
            lambda _m, inputs, name=name: seen[name].extend(inputs[1].tolist())
        )
    for phase in gan.phases(0, batches(True, 200), Draws(0)):
        phase.loss()
    return seen


def test_critic_phase_uses_the_real_labels() -> None:
    seen = labels_seen(variant(**CONDITIONAL, critic_steps=1))
    real = batches(True, 200)("critic/0").labels.tolist()
    assert seen["generator"][:200] == real
    # Real and generated half, then the penalty's mix.
    assert seen["critic"][:600] == real * 3


@pytest.mark.parametrize(("balanced", "share"), [(False, 0.1), (True, 0.5)])
def test_generator_phase_follows_the_prior(balanced: bool, share: float) -> None:
    seen = labels_seen(variant(**CONDITIONAL, balanced=balanced, critic_steps=1))
    drawn = seen["generator"][200:]
    assert len(drawn) == 200
    assert np.mean(drawn) == pytest.approx(share, abs=0.08)


def test_sample_repeats_and_obeys_labels() -> None:
    gan = variant(**CONDITIONAL)
    draws = [gan.sample(5, labels, np.random.default_rng(0)) for labels in (1, [1] * 5, 0)]
    assert draws[0].shape == (5, 1, *SHAPE) and not draws[0].requires_grad
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    drawn = gan.sample(5, None, np.random.default_rng(0))
    assert drawn.shape == (5, 1, *SHAPE)
    assert gan.sample(0, None, np.random.default_rng(0)).shape == (0, 1, *SHAPE)


def test_rejects_labels_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="without classes"):
        variant().sample(2, 1)
    with pytest.raises(ConfigError, match=r"label 2 is not in 0..1 \(benign, malignant\)"):
        variant(**CONDITIONAL).sample(2, 2)
    with pytest.raises(ConfigError, match="needs labels"):
        next(iter(variant(**CONDITIONAL).phases(0, batches(False), Draws(0)))).loss()


@pytest.mark.parametrize("objective", ["minimax", "hinge", "wgan-gp"])
def test_rejects_labels_of_an_unconditional_variant(objective: str) -> None:
    gan = variant(objective=objective)
    z, labels, rng = torch.randn(4, 4), torch.zeros(4, dtype=torch.int64), np.random.default_rng(0)
    with pytest.raises(ConfigError, match="labels"):
        gan.critic_loss(torch.randn(4, 1, *SHAPE), z, labels, rng=rng)
    with pytest.raises(ConfigError, match="labels"):
        gan.generator_loss(z, labels, rng=rng)


def test_unconditional_variant_ignores_labels_of_the_data() -> None:
    seen, expected = (step(variant(), 0, labelled) for labelled in (True, False))
    assert [phase["loss"] for phase in seen] == [phase["loss"] for phase in expected]


def test_rejects_networks_of_other_classes() -> None:
    modules = variant().modules
    with pytest.raises(ConfigError, match="generator was built for 0 classes, labels have 2"):
        AdversarialGAN(
            modules["generator"], modules["critic"], labels=LabelPrior(("a", "b"), (1, 1))
        )
