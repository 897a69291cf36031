"""Planted controls: by which measure of the runs, and at which limit, each holds."""

import pytest

from fastgan.audit import controls
from fastgan.audit.statistics import clopper_pearson

# Of 20 runs the lower bound of 19 is 0.751, of 20 it is 0.832.
FOUND = [
    (16, {}, True),
    (15, {}, False),
    (19, {"by": "lower bound"}, False),
    (20, {"by": "lower bound"}, True),
    (19, {"at_least": 1.0}, False),
    (20, {"at_least": 1.0}, True),
]
# Of 20 runs the one-sided 99.9 % lower bound of 5 is 0.044, of 6 it is 0.065.
QUIET = [
    (1, {"at_most": 0.05, "by": "rate"}, True),
    (2, {"at_most": 0.05, "by": "rate"}, False),
    (5, {"at_most": 0.05}, True),
    (6, {"at_most": 0.05}, False),
    (0, {"at_most": 0.0, "by": "rate"}, True),
    (1, {"at_most": 0.0, "by": "rate"}, False),
]


@pytest.mark.parametrize(("hits", "rule", "held"), FOUND)
def test_a_planted_fault_must_be_found_often_enough(hits, rule, held):
    made = controls.found("a copy", hits, 20, **rule)
    assert (made.name, made.expected, made.held) == ("a copy", "found", held)
    assert (made.rate, made.runs, made.decisive) == (hits / 20, 20, True)
    assert made.interval == clopper_pearson(hits, 20)


@pytest.mark.parametrize(("hits", "rule", "held"), QUIET)
def test_what_has_no_fault_must_stay_quiet(hits, rule, held):
    made = controls.quiet("nothing", hits, 20, **rule, decisive=False)
    assert (made.name, made.expected, made.held) == ("nothing", "quiet", held)
    assert (made.rate, made.decisive, made.interval) == (
        hits / 20,
        False,
        clopper_pearson(hits, 20),
    )


def test_nothing_planted_is_nothing_found():
    assert not controls.found("a lesion", 0, 0).held
    assert controls.quiet("a lesion", 0, 0, at_most=0.1).held


def test_hits_are_counted_at_the_level_itself():
    level = controls.power_level(0.05)
    assert level == 0.0025
    assert controls.hits([0.001, 0.0025, 0.003], level) == (2, 3)
