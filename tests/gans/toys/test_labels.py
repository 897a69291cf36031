"""Fake labels drawn otherwise than the real ones: the critic wins by the label alone."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from fastgan.gans import AdversarialGAN, AdversarialSettings, LabelPrior

REAL = torch.tensor([0.75, 0.25], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 0, 1])
CLASSES = ("common", "rare")


class UniformLabels(AdversarialGAN):
    """The mistake: generated volumes carry every label equally often."""

    def critic_loss(self, real: Any, z: Any, labels: Any, **rest: Any) -> Any:
        critic = self.modules["critic"]
        on_real = critic(real, labels)
        on_fake = critic(self.modules["generator"](z), torch.tensor([0, 1, 0, 1]))
        loss = self.objective.critic_loss(on_real, on_fake)
        return loss, self.objective.metrics(on_real, on_fake)


def trained(kind: type[AdversarialGAN], toys: ModuleType, folder: Path) -> tuple[Any, dict]:
    """The critic after training by the loop against a generator that is perfect: P at 0."""
    critic = toys.Line(0.0, [1.0, -0.5])
    gan = kind(
        toys.point(0.0),
        critic,
        AdversarialSettings(
            objective="minimax",
            penalty="none",
            critic_steps=4,
            lr_critic=0.05,
            lr_generator=1e-12,
            betas=(0.0, 0.99),
        ),
        labels=LabelPrior(CLASSES, REAL.tolist()),
    )
    data = toys.Constant(torch.zeros(4).double(), LABELS)
    run = toys.training(gan, data, folder, steps=60, lr_decay="linear")
    for _ in range(60):
        run.advance()
    return critic.scores.detach().sigmoid(), run.metrics()


def test_the_right_prior_leaves_the_critic_nothing(toys: ModuleType, tmp_path: Path) -> None:
    verdicts, metrics = trained(AdversarialGAN, toys, tmp_path)
    assert verdicts.tolist() == pytest.approx([0.5, 0.5], abs=1e-2)
    assert metrics["critic/jensen_shannon"] == pytest.approx(0.0, abs=1e-4)


def test_uniform_fake_labels_are_seen(toys: ModuleType, tmp_path: Path) -> None:
    """D* = p(c) / (p(c) + pi(c)), and a divergence that no generator can remove."""
    uniform = torch.full((2,), 0.5, dtype=torch.float64)
    expected = REAL / (REAL + uniform)
    assert expected.tolist() == pytest.approx([0.6, 1 / 3])
    verdicts, metrics = trained(UniformLabels, toys, tmp_path)
    assert verdicts.tolist() == pytest.approx(expected.tolist(), abs=1e-2)
    m = (REAL + uniform) / 2
    exact = ((REAL * (REAL / m).log()).sum() + (uniform * (uniform / m).log()).sum()) / 2
    assert metrics["critic/jensen_shannon"] == pytest.approx(float(exact), abs=1e-3)
    assert float(exact) > 0.03
