"""The collapse alarm on batches whose diversity is known."""

from __future__ import annotations

import pytest
import torch

from fastgan.gans import collapse_metrics, similarity


def test_similarity_of_known_batches() -> None:
    noise = torch.randn(8, 1, 16, 16, 16)
    assert similarity(noise).item() == pytest.approx(0.0, abs=0.05)
    assert similarity(noise[:1].expand(8, -1, -1, -1, -1)).item() == pytest.approx(1.0)
    # Common part and own part of equal variance: correlation one half.
    assert similarity(noise[:1] + torch.randn(8, 1, 16, 16, 16)).item() == pytest.approx(
        0.5, abs=0.05
    )


def test_similarity_is_the_mean_correlation() -> None:
    x = torch.randn(6, 1, 8, 8, 8) + torch.randn(1, 1, 8, 8, 8)
    x = (x - x.mean((1, 2, 3, 4), True)) / x.std((1, 2, 3, 4), keepdim=True)
    pairs = torch.corrcoef(x.flatten(1))
    mean = (pairs.sum() - 6) / 30
    assert similarity(x).item() == pytest.approx(mean.item(), abs=0.01)


def test_equal_constant_volumes_are_alike() -> None:
    assert similarity(torch.full((4, 1, 2, 2, 2), -1.0)).item() == 1.0


def test_alarm_rises_with_collapse() -> None:
    real = torch.randn(8, 1, 8, 8, 8)
    other, one = torch.randn(8, 1, 8, 8, 8), torch.randn(1, 1, 8, 8, 8)
    levels = [
        collapse_metrics(real, (1 - a) * other + a * one)["collapse"].item()
        for a in (0.0, 0.5, 0.9, 1.0)
    ]
    assert levels[0] < 0.1
    assert levels[1] == pytest.approx(0.75, abs=0.05)
    assert levels[2] == pytest.approx(0.99, abs=0.01)
    assert levels[3] == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_said_of_one_volume() -> None:
    assert collapse_metrics(torch.randn(1, 1, 2, 2, 2), torch.randn(1, 1, 2, 2, 2)) == {}


def test_metrics_are_detached() -> None:
    fake = torch.randn(3, 1, 2, 2, 2, requires_grad=True)
    metrics = collapse_metrics(torch.randn(3, 1, 2, 2, 2), fake)
    assert set(metrics) == {"similarity_real", "similarity_fake", "collapse"}
    assert not any(v.requires_grad for v in metrics.values())
