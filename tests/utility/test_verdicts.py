"""Each verdict, its sentence and its exit code, from fold scores written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.utility.corrected_t import corrected_t
from fastgan.utility.settings import Arm
from fastgan.utility.subgroups import Group, GroupTable, Standing
from fastgan.utility.verdicts import (
    Judgement,
    compared,
    exit_code,
    judge,
    said_of_worth,
    worth,
)

FOLDS = np.array([0.70, 0.71, 0.69, 0.72, 0.68])
JITTER = np.array([1.0, -1.0, 0.5, -0.5, 0.0])


def judged(
    gain: float, spread: float, groups: dict[Arm, GroupTable] | None = None, base: float = 0.0
) -> Judgement:
    areas: dict[Arm, np.ndarray] = {
        "real": FOLDS + base - 0.01,
        "oversampled": FOLDS + base,
        "classic": FOLDS + base + 0.01,
        "gan": FOLDS + base + gain + spread * JITTER,
    }
    return judge(compared(areas, 0.25), 0.02, groups or {}, {"gan": []})[0]


def group(standing: Standing) -> dict[Arm, GroupTable]:
    one = Group("sex", "F", 30, 30, 0.6, 0.7, -0.1, -0.2, -0.01, standing, None)
    return {"gan": GroupTable((one,))}


def test_it_helps_where_it_beats_every_other_arm() -> None:
    found = judged(0.06, 0.005)
    assert found.verdict == "helps" and exit_code([found]) == 0
    assert found.sentence.startswith("Helps: AUC is higher than with every arm without it")
    assert "+0.050" in found.sentence and "against classic" in found.sentence


def test_beating_some_of_the_others_is_not_enough() -> None:
    found = judged(0.012, 0.002)  # above real and oversampled, not above classic
    assert found.comparisons[1].difference.p_above < 0.025
    assert found.verdict == "no evidence that it helps" and exit_code([found]) == 4
    assert "A gain of 0.02 or more" in found.sentence and "80 %" in found.sentence


def test_it_harms_where_it_is_worse_than_its_partner() -> None:
    found = judged(-0.08, 0.01)
    assert found.verdict == "harms" and exit_code([found]) == 3
    assert "lower than with" in found.sentence


def test_nobody_can_tell_where_folds_scatter() -> None:
    found = judged(0.02, 0.06)
    assert found.verdict == "cannot tell" and exit_code([found]) == 4
    assert "times as many patients" in found.sentence


def test_nothing_can_help_where_there_is_no_room() -> None:
    found = judged(0.0, 0.001, base=0.285)
    assert found.verdict == "cannot tell" and "leaves no room" in found.sentence


def test_a_gain_that_harms_a_group_fails() -> None:
    found = judged(0.06, 0.005, group("harmed"))
    assert found.verdict == "harms" and exit_code([found]) == 3
    assert "although the mean is better, the group sex F is worse off" in found.sentence


def test_a_group_of_which_nothing_is_known_keeps_the_gate_shut() -> None:
    found = judged(0.06, 0.005, group("cannot tell"))
    assert found.verdict == "helps" and exit_code([found]) == 4
    assert "Of 1 of 1 groups nothing can be said yet." in found.sentence
    assert exit_code([judged(0.06, 0.005, group("not worse"))]) == 0


def test_two_arms_are_corrected_for() -> None:
    areas: dict[Arm, np.ndarray] = {"real": FOLDS, "oversampled": FOLDS, "classic": FOLDS}
    one = {**areas, "gan": FOLDS + 0.03 + 0.01 * JITTER}
    two = {**one, "gan+classic": FOLDS - 0.1 + 0.01 * JITTER}
    alone, both = (judge(compared(a, 0.25), 0.02, {}, {}) for a in (one, two))
    assert both[0].p_helps == pytest.approx(2 * alone[0].p_helps)
    assert both[1].verdict == "harms" and exit_code(both) in (0, 3)


def test_trainings_that_diverged_are_in_the_sentence() -> None:
    areas: dict[Arm, np.ndarray] = {"real": FOLDS, "oversampled": FOLDS, "gan": FOLDS - 0.1}
    found = judge(compared(areas, 0.25), 0.02, {}, {"gan": ["fold 0, seed 0: loss nan"]})[0]
    assert "1 of its trainings diverged and count as chance." in found.sentence


def test_worth_in_patients_of_a_curve_that_is_known() -> None:
    # 0.04 AUC per doubling; a gain of 0.02 is half a doubling: 200 (sqrt 2 - 1) = 82.8 patients.
    curve = [(n, FOLDS + 0.04 * np.log2(n / 200)) for n in (50.0, 100.0, 200.0)]
    gain = corrected_t(np.array([0.02, 0.021, 0.019, 0.02, 0.02]), 0.25)
    found = worth("gan", gain, curve, 0.25)
    assert found.patients == pytest.approx(200 * (2**0.5 - 1))
    assert found.slope == pytest.approx(0.04)
    assert "worth 83 extra real patients" in said_of_worth(found)
    none = worth("gan", corrected_t(np.full(5, -0.04) + 0.001 * JITTER, 0.25), curve, 0.25)
    assert none.patients == pytest.approx(-100.0)
    assert "worth no extra real patients: -100" in said_of_worth(none)
    most = worth("gan", corrected_t(np.full(5, 0.2), 0.25), curve, 0.25)
    assert most.patients == 200.0 and "at least 200" in said_of_worth(most)


def test_a_curve_that_does_not_rise_says_nothing() -> None:
    curve = [(100.0, FOLDS + 0.02 * JITTER), (200.0, FOLDS)]
    found = worth("gan", corrected_t(0.01 * JITTER, 0.25), curve, 0.25)
    assert found.patients is None and "cannot tell" in said_of_worth(found)
    alone = worth("gan", corrected_t(0.01 * JITTER, 0.25), curve[1:], 0.25)
    assert alone.patients is None and "cannot tell" in said_of_worth(alone)
