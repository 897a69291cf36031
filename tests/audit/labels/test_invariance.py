"""Flips of labels: who is counted, what is certified, what refutes."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.labels.invariance import (
    Effect,
    Readings,
    chance_to_refute,
    effect,
    smallest_certifiable,
)


def readings(count, undecided=0):
    """Two classes by turns, read rightly; the first `undecided` waver."""
    true = np.arange(count) % 2
    sure = np.where(true == 1, 0.9, 0.1)
    said = np.stack([1 - sure, sure], axis=1)
    wobble = np.stack([said, said])
    wobble[1, :undecided] = wobble[1, :undecided, ::-1]
    return Readings(true, said, wobble)


def test_flips_are_counted_of_decided_subjects():
    before = readings(200, undecided=10)
    after = before.probabilities.copy()
    after[:14] = after[:14, ::-1]  # all undecided, and two of each class that are decided
    found = effect(before, after)
    assert found.flipped.tolist() == [2, 2] and found.decided.tolist() == [95, 95]
    assert found.raw == pytest.approx(14 / 200)
    assert not found.refuted() and found.certified() > 0.05


def test_nobody_flipped_is_certified_to_three_percent_of_99():
    assert smallest_certifiable(np.array([99])) == pytest.approx(0.0298, abs=5e-4)
    assert smallest_certifiable(np.array([299])) == pytest.approx(0.00997, abs=5e-4)
    found = effect(readings(400), readings(400).probabilities)
    assert found.certified() == pytest.approx(smallest_certifiable(np.array([200])))


def test_a_rare_class_is_not_outvoted():
    """Every one of 20 flips, none of 980: 2 % of all, and a label destroyed."""
    spare = np.zeros(2)
    counts = np.array([980, 20])
    found = Effect(np.array([0, 20]), counts, counts, 0.02, spare, spare, 0.0)
    assert found.refuted() and found.certified() == 1.0


def test_drift_without_flips_is_seen():
    before = readings(400)
    after = before.probabilities.copy()
    after[:, 1] = np.where(before.labels == 1, 0.7, 0.1)
    after[:, 0] = 1 - after[:, 1]
    found = effect(before, after)
    assert found.flipped.sum() == 0 and found.drift.tolist() == pytest.approx([0.0, -0.2])
    assert found.refuted() and found.certified() > 0.15
    # What the controls count is what the verdict goes by.
    assert chance_to_refute(found, np.random.default_rng(0), 50) == 50
    assert chance_to_refute(found, np.random.default_rng(0), 50, share=0.1) == 0
