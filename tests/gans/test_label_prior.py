"""Labels of generated volumes follow the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.gans import LabelPrior

CLASSES = ("benign", "malignant", "unseen")


def shares(prior: LabelPrior) -> list[float]:
    labels = prior.draw(20_000, np.random.default_rng(0))
    assert labels is not None and labels.dtype == torch.int64
    return (torch.bincount(labels, minlength=3) / 20_000).tolist()


def test_labels_follow_the_prior() -> None:
    assert shares(LabelPrior(CLASSES, [9, 1, 0])) == pytest.approx([0.9, 0.1, 0.0], abs=0.01)


def test_balanced_labels_are_equally_often() -> None:
    prior = LabelPrior(CLASSES, [0.9, 0.1, 0.0], balanced=True)
    assert shares(prior) == pytest.approx([0.5, 0.5, 0.0], abs=0.01)


def test_no_classes_no_labels() -> None:
    assert LabelPrior().draw(3, np.random.default_rng(0)) is None


@pytest.mark.parametrize("labels", [1, np.array([1, 1]), torch.tensor([1, 1], dtype=torch.int32)])
def test_check_accepts_one_or_all(labels: object) -> None:
    found = LabelPrior(CLASSES, [1, 1, 1]).check(labels, 2)
    assert found is not None and found.tolist() == [1, 1] and found.dtype == torch.int64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (3, "label 3 is not in 0..2"),
        ([0, -1], "label -1"),
        ([0, 1, 2], "one or 2"),
        ([0.0, 1.0], "whole numbers"),
    ],
)
def test_rejects_labels(labels: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelPrior(CLASSES, [1, 1, 1]).check(labels, 2)


def test_rejects_labels_without_classes() -> None:
    with pytest.raises(ConfigError, match="without classes"):
        LabelPrior().check(0, 2)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (None, "missing"),
        ([1, 1], "3 classes"),
        ([1, -1, 1], ">= 0"),
        ([0, 0, 0], "not all 0"),
        ([1, np.nan, 1], ">= 0"),
    ],
)
def test_rejects_priors(prior: list[float] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelPrior(CLASSES, prior)
