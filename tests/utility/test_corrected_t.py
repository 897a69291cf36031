"""The corrected resampled t against values computed by hand, and its quantiles against tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastgan.utility.corrected_t import corrected_t, detectable, student_quantile, student_tail

# One-sided 2.5 % points of Student's t, from printed tables.
TABLE = [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (24, 2.0639), (120, 1.9799)]


@pytest.mark.parametrize(("freedom", "value"), TABLE)
def test_quantiles_are_those_of_the_tables(freedom: int, value: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(value, abs=6e-5)
    # The tables have four digits.
    assert student_tail(value, freedom) == pytest.approx(0.025, abs=3e-6)
    assert student_tail(-value, freedom) == pytest.approx(0.975, abs=3e-6)


def test_tail_in_closed_form() -> None:
    # One degree of freedom is Cauchy's: 1/2 - atan(t) / pi; two: 1/2 - t / (2 sqrt(2 + t^2)).
    for t in (-3.0, 0.0, 0.4, 7.0):
        assert student_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, abs=1e-13)
        assert student_tail(t, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)), abs=1e-13)
    assert student_tail(math.inf, 4) == 0.0


def test_corrected_t_by_hand() -> None:
    # Mean 0.02; squares of deviations 0, 4, 4, 1, 1 (1e-4) sum to 1e-3, so the variance is 2.5e-4.
    # Corrected: (1/5 + 1/4) 2.5e-4 = 1.125e-4, its root 0.0106066, so t = 1.885618.
    found = corrected_t(np.array([0.02, 0.04, 0.0, 0.03, 0.01]), 0.25)
    assert found.mean == pytest.approx(0.02)
    assert found.error == pytest.approx(math.sqrt(1.125e-4))
    assert found.freedom == 4
    assert found.p_above == pytest.approx(student_tail(1.885618, 4), abs=1e-6)
    assert found.p_above + found.p_below == pytest.approx(1.0)
    reach = 2.776445 * math.sqrt(1.125e-4)
    assert found.interval == pytest.approx((0.02 - reach, 0.02 + reach), abs=1e-7)


def test_folds_that_agree_to_the_last_bit() -> None:
    same = corrected_t(np.zeros(5), 0.25)
    assert (same.p_above, same.p_below, same.interval) == (0.5, 0.5, (0.0, 0.0))
    above = corrected_t(np.full(5, 0.5), 0.25)
    assert (above.p_above, above.p_below) == (0.0, 1.0)
    with pytest.raises(ValueError, match="at least two folds"):
        corrected_t(np.zeros(1), 0.25)


def test_detectable_difference_has_its_power() -> None:
    # Normal differences whose mean has the corrected error, so the test is exact.
    folds, share, rng = 5, 0.25, np.random.default_rng(0)
    scale = math.sqrt(1 / folds + share)
    effect = detectable(1.0, folds, share)
    mean = effect + scale * rng.standard_normal(40_000)
    deviation = np.sqrt(rng.chisquare(folds - 1, 40_000) / (folds - 1))
    power = float((mean / (scale * deviation) > student_quantile(0.975, folds - 1)).mean())
    assert power == pytest.approx(0.8, abs=0.01)
    # As the noncentral t of another library has it: 3.76091 standard errors.
    assert effect == pytest.approx(0.07568988 / 0.03, rel=1e-4)
