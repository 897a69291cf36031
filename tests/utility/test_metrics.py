"""Metrics on cases that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastgan.utility.metrics import expected_calibration_error, measure, sensitivity_at

TRUTH = np.array([False, False, False, False, True, True])


def test_all_of_them_by_hand() -> None:
    # Probabilities 0.1, 0.2, 0.3, 0.6 of negatives and 0.4, 0.8 of positives.
    p = np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.8])
    found = measure(np.log(p / (1 - p)), TRUTH, 0.75)
    assert found["AUC"] == pytest.approx(7 / 8)
    assert found["Brier"] == pytest.approx((0.01 + 0.04 + 0.09 + 0.36 + 0.36 + 0.04) / 6)
    # A threshold of 0.3 keeps three of four negatives at or below it; both positives are above.
    assert found["sensitivity"] == 1.0
    gaps = [0.1, 0.2, 0.3, 0.6, 1 - 0.4, 1 - 0.8]
    assert found["ECE"] == pytest.approx(sum(gaps) / 6)


def test_sensitivity_at_the_ends() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0, 2.5, 4.0])
    assert sensitivity_at(scores, TRUTH, 1.0 - 1e-12) == 0.5
    assert sensitivity_at(scores, TRUTH, 0.25) == 1.0
    assert math.isnan(sensitivity_at(scores[:4], TRUTH[:4], 0.5))


def test_calibration_of_whoever_is_right_on_average_is_zero() -> None:
    assert expected_calibration_error(np.full(6, 1 / 3), TRUTH) == pytest.approx(0.0)
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0.0


def test_a_class_that_is_missing_has_no_area() -> None:
    found = measure(np.zeros(4), np.zeros(4, bool), 0.9)
    assert math.isnan(found["AUC"]) and math.isnan(found["sensitivity"])
    assert found["Brier"] == 0.25
