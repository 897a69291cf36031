"""Bounds of groups: by brute force, on a planted harm, and on groups too small to say anything."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.statistics import auc
from fastgan.utility.cohort import bands
from fastgan.utility.subgroups import GroupTable, judge_groups, pairwise

RNG = np.random.default_rng(0)


def judged(
    count: int, lost: float, names: list[str], margin: float = 0.05, seed: int = 0
) -> GroupTable:
    """Two folds of scores; under the arm the ill of group "A" stand out less by `lost`."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.5
    seen = rng.standard_normal((1, count)) + 1.5 * truth
    # Both arms read the same patients, equally well but for what is planted.
    real, arm = (seen + 0.3 * rng.standard_normal((1, count)) for _ in range(2))
    arm -= lost * truth * (np.array(names) == "A")
    half = count // 2
    parts = (slice(0, half), slice(half, count))
    return judge_groups(
        [arm[:, at] for at in parts],
        [real[:, at] for at in parts],
        [truth[at] for at in parts],
        [np.array([f"p{i}" for i in range(count)])[at] for at in parts],
        {"site": [names[at] for at in parts]},
        margin=margin,
        level=0.025,
        rng=np.random.default_rng(1),
    )


def test_pairs_are_those_of_the_area_under_the_curve() -> None:
    truth = RNG.random(40) < 0.4
    logits = np.round(RNG.standard_normal((3, 40)), 1)  # with ties
    wanted = np.mean([auc(one, truth) for one in logits])
    assert pairwise(logits, truth).mean() == pytest.approx(wanted)


def test_area_of_a_group_is_taken_within_folds() -> None:
    names = ["A" if i % 2 else "B" for i in range(200)]
    table = judged(200, 1.0, names)
    a, b = table.groups
    assert (a.column, a.name, b.name) == ("site", "A", "B")
    assert a.auc is not None and a.auc_real is not None and a.difference is not None
    assert a.auc - a.auc_real == pytest.approx(a.difference)
    assert a.positive + a.negative == 100
    # A fold in which a group has nobody of a class brings no pairs, and no error.
    alone = judged(200, 0.0, ["A"] * 100 + ["B"] * 100)
    assert [g.positive + g.negative for g in alone.groups] == [100, 100]


def test_a_planted_harm_is_named_and_the_others_are_not() -> None:
    table = judged(600, 1.5, ["AB"[i % 2] for i in range(600)])
    a, b = table.groups
    assert (a.standing, b.standing) == ("harmed", "not worse")
    assert a.high is not None and a.high < 0.0 and b.low is not None and b.low > -0.05
    assert table.worst == a


def test_a_bound_that_does_not_clear_the_margin_says_how_many_would_do() -> None:
    names = ["AB"[i % 2] for i in range(80)]
    a = judged(80, 0.0, names, margin=0.08).groups[0]
    assert a.standing == "cannot tell"
    assert a.needed is not None and 40 < a.needed < 1000
    enough = ["AB"[i % 2] for i in range(2 * a.needed)]
    standings = [
        judged(len(enough), 0.0, enough, margin=0.08, seed=seed).groups[0].standing
        for seed in range(8)
    ]
    assert standings.count("not worse") >= 5 and "harmed" not in standings


def test_a_group_of_one_and_a_group_of_one_class_say_what_would_do() -> None:
    names = ["C"] + ["A"] * 100 + ["B"] * 99
    c = next(g for g in judged(200, 0.0, names).groups if g.name == "C")
    assert (c.standing, c.low, c.difference) == ("cannot tell", None, None)
    assert c.positive + c.negative == 1 and c.needed is not None and c.needed >= 20
    assert c.auc is None


def test_groups_of_small_numbers_do_not_move_the_bounds_of_others() -> None:
    names = ["A"] * 100 + ["B"] * 100
    with_few = ["C", "D", *names[2:]]
    one, other = judged(200, 0.0, names), judged(200, 0.0, with_few)
    few = {g.name: g for g in other.groups}
    assert few["C"].standing == few["D"].standing == "cannot tell"
    assert one.groups[1].low == pytest.approx(few["B"].low, abs=0.01)


def test_bands_of_numbers() -> None:
    assert bands([3.0, 5.0, 9.0, None], [5.0, 8.0]) == [
        "below 5",
        "5 to 8",
        "8 and more",
        "unknown",
    ]
    assert bands(["x", None, "y"], []) == ["x", "unknown", "y"]
    thirds = bands([float(i) for i in range(9)], [])
    assert [thirds.count(name) for name in dict.fromkeys(thirds)] == [3, 3, 3]
    # Numbers that are few are names.
    assert bands([1.0, 3.0, 3.0], []) == ["1", "3", "3"]
