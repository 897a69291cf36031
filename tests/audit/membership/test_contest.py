"""The statistics of memberships: exact where nothing leaks, and strong where something does."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.membership.contest import Contest, deal, midranks, true_positives
from fastgan.audit.membership.epsilon import epsilon_bound, guesses, right_guesses_p
from fastgan.audit.statistics import auc, clopper_pearson

RUNS = 400


@pytest.mark.parametrize("members", [20, 70])
def test_size_of_many_attacks_together(members) -> None:
    """400 null sets of three correlated attacks with ties: rejected no more often than 5 %."""
    rng = np.random.default_rng(members)
    contest = Contest.draw(members, 100, rng, 199)
    rejected = 0
    for _ in range(RUNS):
        common = rng.standard_normal(100)
        scores = np.stack([common, np.round(common), common + rng.standard_normal(100)])
        rejected += contest.p(scores, deal(members, 100, rng, 1)[0]) <= 0.05
    assert clopper_pearson(rejected, RUNS, 0.99, "lower")[0] <= 0.05
    assert rejected > 0.01 * RUNS


def test_p_of_deals_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    contest = Contest.draw(30, 50, rng, 99)
    scores, members = rng.standard_normal((2, 50)), deal(30, 50, rng, 7)
    each = [contest.p(scores, member) for member in members]
    assert contest.p_of_deals(scores, members).tolist() == each


def test_p_of_sets_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    contest = Contest.draw(30, 50, rng, 99)
    scores, members = rng.standard_normal((120, 2, 50)), deal(30, 50, rng, 120)
    each = [contest.p(*one) for one in zip(scores, members, strict=True)]
    assert contest.p_of_sets(scores, members).tolist() == each
    assert len(set(each)) > 20


def test_scores_that_are_all_equal_tell_nothing() -> None:
    contest = Contest.draw(30, 50, np.random.default_rng(0), 99)
    assert contest.p(np.zeros((2, 50)), np.arange(50) < 30) == 1.0


def test_few_members_who_are_wholly_exposed_are_found() -> None:
    """5 % of 200 members above all 200 others: the AUC is .52, the head full of members."""
    rng = np.random.default_rng(1)
    member = np.arange(400) < 200
    contest = Contest.draw(200, 400, rng, 999)
    p = []
    for _ in range(40):
        scores = rng.standard_normal((1, 400))
        scores[0, :15] += 50
        assert auc(scores[0], member) < 0.62
        p.append(contest.p(scores, member))
    assert np.mean(np.array(p) <= 0.05) > 0.9


def test_ranks_and_heads_share_ties() -> None:
    ranks = midranks(np.array([[3.0, 1.0, 3.0, 2.0]]))
    assert ranks.tolist() == [[3.5, 1.0, 3.5, 2.0]]
    contest = Contest.draw(10, 40, np.random.default_rng(0), 9)
    columns, mean, _ = contest._columns(np.r_[np.zeros(36), np.ones(4)][None])
    # Two places (5 % of 40) for four patients of the same score.
    assert columns[:, 1].tolist() == [0.0] * 36 + [0.5] * 4 and mean[1] == 0.5


@pytest.mark.parametrize(("others", "allowed"), [(99, 0.01), (999, 0.001)])
def test_too_few_others_say_nothing_of_a_rate(others, allowed) -> None:
    scores = np.arange(float(others + 50))
    member = np.arange(others + 50) >= others
    assert true_positives(scores, member, allowed) is None
    scores, member = np.r_[scores, -1.0], np.r_[member, False]
    found = true_positives(scores, member, allowed)
    assert found is not None and (found.named, found.members) == (50, 50)
    assert (found.wrong, found.others) == (1, others + 1)


def test_a_threshold_is_not_passed_by_its_equals() -> None:
    scores = np.r_[np.full(100, 1.0), np.full(10, 1.0), np.full(3, 2.0)]
    member = np.arange(113) >= 100
    found = true_positives(scores, member, 0.01)
    assert found is not None and found.named == 3 and found.rate == 3 / 13


# --- epsilon


def test_without_learning_guesses_are_those_of_chance() -> None:
    """At epsilon 0 the bound is the exact probability of so many right guesses."""
    rng = np.random.default_rng(0)
    members = deal(25, 40, rng, 40_000)
    right = members[:, :6].sum(axis=1) + (~members[:, 6:12]).sum(axis=1)
    for count in (4, 6, 8, 10):
        exact = right_guesses_p(count, 6, 25, 40, 0.0)
        assert exact == pytest.approx(np.mean(right >= count), abs=0.01)


def test_one_guess_of_either_kind_in_closed_form() -> None:
    """Of two patients one is a member: both guesses are right together, at odds of exp(epsilon)."""
    for epsilon in (0.0, 1.0, 3.0):
        expected = np.exp(epsilon) / (1 + np.exp(epsilon))
        assert right_guesses_p(2, 1, 1, 2, epsilon) == pytest.approx(expected)
    assert right_guesses_p(0, 1, 1, 2, 1.0) == 1.0


def test_the_bound_holds_for_randomised_response() -> None:
    """Each patient's membership told truly with odds exp(1): epsilon for an exchange is 2."""
    rng = np.random.default_rng(2)
    truth = np.exp(1) / (1 + np.exp(1))
    bounds = []
    for member in deal(120, 200, rng, 200):
        told = np.where(rng.random(200) < truth, member, ~member) + 1e-3 * rng.random(200)
        bounds.append(epsilon_bound(told, member, rng))
    above = int(np.sum(np.array(bounds) > 2.0))
    assert clopper_pearson(above, 200, 0.99, "lower")[0] <= 0.05
    assert np.median(bounds) > 0.2


def test_the_bound_of_nothing_is_nothing() -> None:
    rng = np.random.default_rng(3)
    member = np.arange(300) < 200
    bounds = [epsilon_bound(rng.standard_normal(300), member, rng) for _ in range(200)]
    assert clopper_pearson(int(np.sum(np.array(bounds) > 0)), 200, 0.99, "lower")[0] <= 0.05


def test_equal_scores_are_guessed_by_chance_and_not_by_their_order() -> None:
    member = np.arange(300) < 200  # members first, as patients stand
    bounds = [epsilon_bound(np.zeros(300), member, np.random.default_rng(i)) for i in range(20)]
    assert np.mean(np.array(bounds) > 0) <= 0.2


def test_a_perfect_attack_is_bounded_by_the_number_of_guesses() -> None:
    rng = np.random.default_rng(0)
    small, large = (
        epsilon_bound(np.arange(n) < n / 2, np.arange(n) < n / 2, rng) for n in (60, 900)
    )
    assert (guesses(60), guesses(900)) == (6, 90)
    assert 1.0 < small < large < 6.0
