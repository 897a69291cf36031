"""The figures that stand beside each other: equal numbers, intervals, patients, odd sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastgan.audit.quality.context import figures
from fastgan.audit.quality.context.figures import (
    NAMES,
    Known,
    Measured,
    Trial,
    figures_table,
    in_turn,
    measured,
)

RNG = np.random.default_rng


def people(rows: np.ndarray, name: str, volumes: int = 1) -> Known:
    return Known(
        rows.repeat(volumes, 0), np.repeat([f"{name}{i}" for i in range(len(rows))], volumes)
    )


def compared(seed: int, shift: float = 0.0, scale: float = 1.0, volumes: int = 1):
    """60 training patients, 30 held-out, 60 generated volumes of 6 features."""
    rng = RNG(seed)
    training, holdout, made = (rng.standard_normal((n, 6)) for n in (60, 30, 60))
    everybody = np.concatenate([training, holdout])
    trials = []
    for _ in range(figures.DRAWS):
        dealt = everybody[rng.permutation(90)]
        trials.append(Trial(dealt[:30], dealt[30:60], dealt[60:]))
    patients = people(training, "t", volumes), people(holdout, "h", volumes)
    return measured(patients, scale * made + shift, trials, 30, rng)


def test_one_volume_of_each_subject_counts():
    rng = RNG(0)
    subjects = np.array(["a", "a", "b", "c", "c", "c"])
    rows = np.arange(6.0)[:, None]
    drawn = [Known(rows, subjects).drawn(rng)[:, 0].astype(int) for _ in range(60)]
    assert all(sorted(subjects[d]) == ["a", "b", "c"] for d in drawn)
    assert {int(i) for d in drawn for i in d} == set(range(6))
    assert len({tuple(subjects[d]) for d in drawn}) == 6
    order = rng.permutation(6)
    chosen = in_turn(order, subjects)
    assert chosen.tolist() == [
        i for k, i in enumerate(order) if subjects[i] not in subjects[order[:k]]
    ]


def test_repeated_volumes_of_a_patient_change_nothing():
    """Four equal volumes a patient are one: the same draws in law, so the same figures nearly."""
    one, four = (compared(3, shift=0.3, volumes=n) for n in (1, 4))
    for name in NAMES:
        assert abs(one.values[name] - four.values[name]) < 0.5 * one.errors[name], name


def test_a_perfect_generator_lies_among_patients_and_a_shifted_one_does_not():
    fair, moved, same = compared(0), compared(0, shift=2.0), compared(0, scale=0.1)

    def outside(found: Measured, name: str) -> bool:
        low, high = np.quantile(found.patients[name], [0.025, 0.975])
        return (
            not low - 2 * found.errors[name] <= found.values[name] <= high + 2 * found.errors[name]
        )

    assert not any(outside(fair, name) for name in NAMES)
    for name in ("frechet", "precision", "recall", "density", "likelihood"):
        assert outside(moved, name), name
    for name in ("frechet", "recall", "density", "coverage"):
        assert outside(same, name), name
    assert same.values["precision"] == 1.0


def test_a_standard_error_is_that_of_a_mean(monkeypatch):
    """Halves of n values have means of deviation s / root(n), the error of the mean of all."""
    monkeypatch.setattr(figures, "HALVES", 2000)
    monkeypatch.setattr(
        Trial, "figures", lambda self: dict.fromkeys(NAMES, self.unseen[:, 0].mean())
    )
    rng = RNG(0)
    holdout = rng.standard_normal((40, 1))
    sets = people(rng.standard_normal((40, 1)), "t"), people(holdout, "h")
    trial = Trial(holdout, holdout, holdout)
    found = measured(sets, holdout, [trial], 20, rng)
    assert found.values["density"] == pytest.approx(holdout.mean())
    assert found.errors["density"] == pytest.approx(holdout.std(ddof=1) / math.sqrt(40), rel=0.06)


@pytest.mark.slow
def test_intervals_hold_the_expected_figure_and_are_not_much_too_wide():
    found = [compared(seed, shift=0.3) for seed in range(30)]
    for name in NAMES:
        dealt = np.array([one.patients[name].mean() for one in found])
        less = dealt if name == "likelihood" else 0.0
        values = np.array([one.values[name] for one in found]) - less
        errors = np.array([one.errors[name] for one in found])
        held = np.abs(values - values.mean()) <= 1.96 * errors
        assert held.mean() >= 0.9, name
        assert 0.7 < errors.mean() / values.std(ddof=1) < 4, name


def test_the_table_holds_shares_to_their_range():
    values = dict.fromkeys(NAMES, 0.95)
    found = Measured(values, dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, np.array([0.9, 0.9])))
    table = figures_table((0.1, (-0.2, 0.3), np.array([0.0, 0.2])), found, 30)
    rows = {name: rest for name, *rest in table.rows}
    assert rows["kernel distance"] == ["0.1", "[-0.2, 0.3]", "0.1 [0.005, 0.195]"]
    assert rows["precision"] == ["0.95", "[0, 1]", "0.9 [0.9, 0.9]"]
    assert rows["density"][1] == "[0, 2.91]" and rows["Frechet distance"][1] == "[0, 2.91]"
    assert rows["likelihood divergence"] == ["0.05", "[-1.91, 2.01]", "0 [0, 0]"]
    assert "here 30 on either side" in table.note


def test_what_cannot_be_measured_says_why_and_leaves_the_kernel_distance():
    rows = RNG(0).standard_normal((11, 6))
    trial = Trial(rows, rows, rows)
    few = people(rows, "t"), people(rows, "h")
    said = measured(few, rows, [trial], 5, RNG(0))
    assert said == "coverage: needs more than 5 volumes, got 11 and 5"
    table = figures_table((0.1, (0.0, 0.2), np.array([0.0, 0.2])), said, 5)
    assert table.rows[0][1] == "0.1" and len(table.rows) == 1 + len(NAMES)
    assert all(row[1] == f"not available: {said}" for row in table.rows[1:])
    equal = people(np.zeros((40, 6)), "t"), people(np.zeros((40, 6)), "h")
    said = measured(equal, rows.repeat(4, 0), [trial], 20, RNG(0))
    assert said == "likelihood: every known patient has an equal"


def test_equal_generated_volumes_give_finite_figures():
    same = compared(1, scale=0.0)
    numbers = [*same.values.values(), *same.errors.values()]
    assert np.isfinite(numbers).all() and same.values["frechet"] > 4
