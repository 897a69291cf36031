"""A verdict on either side of each limit of membership."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit import membership
from fastgan.audit.evidence import Options
from fastgan.audit.judgement import settle
from fastgan.audit.membership import planted
from fastgan.audit.membership.contest import Contest
from fastgan.audit.membership.distances import Reals
from fastgan.audit.membership.outsider import Outsider
from fastgan.audit.membership.patients import patients_of
from fastgan.audit.rules import limit
from fastgan.errors import AuditError
from fastgan.runs.insider import OVERTRAINING_STEPS, _require_time
from tests.audit.membership.conftest import Networks, known_by

QUICK = Options(quick=True, permutations=199)
FEW = Options(planted=5, permutations=499)


@pytest.mark.parametrize(("high", "said"), [(0.65, "Power unmeasured"), (0.651, "not excluded")])
def test_the_largest_area_that_passes(clean, monkeypatch, high, said) -> None:
    where = "fastgan.audit.membership.exposure.auc_interval"
    monkeypatch.setattr(where, lambda *given: (0.4, high))
    (one, _) = settle(membership.judge(clean(), QUICK), alpha=0.05)
    assert said in one.sentence, one.sentence


@pytest.mark.parametrize(("exposed", "p_is_small"), [(8, True), (0, False)])
def test_members_are_counted_in_the_head(exposed, p_is_small) -> None:
    """Of 160 patients the head has 8 places; members in all of them, or as many as by chance."""
    assert limit("membership.head") == 0.05
    rng = np.random.default_rng(0)
    member = np.arange(160) % 2 == 0
    scores = np.zeros(160)
    scores[np.flatnonzero(member)[:exposed]] = 1.0
    contest = Contest.draw(80, 160, rng, 999)
    assert (contest.p(scores[None], member) <= 0.05) == p_is_small


def test_one_pull_and_one_area_decide(clean) -> None:
    evidence = known_by(clean(60, 40, generated=30))
    findings = membership.judge(evidence, FEW)
    decisive = {c.name for f in findings for c in f.controls if c.decisive}
    curves = {c.name for f in findings for c in f.controls if not c.decisive}
    (pull,) = [name for name in decisive if "pulled" in name]
    (area,) = [name for name in decisive if "AUC of 0.65" in name and "raised" in name]
    weaker = [name for name in curves if "pulled" in name and name < pull]
    largest = limit("membership.largest_auc")
    assert float(pull.split()[-1]) >= largest and area
    assert all(float(name.split()[-1]) < largest for name in weaker)


def test_pulls_that_no_attack_sees_leave_the_strongest_to_decide(clean) -> None:
    """Three generated volumes cannot give away sixty patients."""
    patients = patients_of(clean(60, 40, generated=3), np.random.default_rng(0))
    made = clean(60, 40, generated=3).require_generated()
    contest = Contest.draw(60, 100, np.random.default_rng(0), 499)
    outsider = Outsider(Reals(patients, mirrored=False), made)
    pulls = planted.pulled_controls(outsider, contest, FEW)
    assert [c.decisive for c in pulls] == [False, False, False, True]
    assert not pulls[-1].held and "pulled 90%" in pulls[-1].name


@pytest.mark.parametrize(("p", "held"), [(0.0101, True), (0.01, False)])
def test_what_an_untrained_critic_may_tell(clean, monkeypatch, p, held) -> None:
    assert limit("membership.untrained") == 0.01
    patients = patients_of(clean(40, 30), np.random.default_rng(0))
    monkeypatch.setattr(Contest, "p", lambda *given: p)
    _, blank = planted.critic_controls(
        Networks(np.zeros((0, 1)))(), Reals(patients, mirrored=False), FEW
    )
    assert blank.held == held and "never trained" in blank.name


@pytest.mark.parametrize(("told", "held"), [(3.0, True), (3.001, False)])
def test_a_statistic_after_random_splits(clean, monkeypatch, all_splits, told, held) -> None:
    """That of the real split against the largest of 99 others, which is 3."""
    values = iter([told, *[0.0] * 98, 3.0])
    monkeypatch.setattr(planted, "_told", lambda *given: next(values))
    evidence = clean(30, 20, generated=20)
    patients = patients_of(evidence, np.random.default_rng(0))
    outsider = Outsider(Reals(patients, mirrored=False), evidence.require_generated())
    control = planted.posing_control(outsider, FEW)
    assert control.held == held and "after 99 random splits" in control.name
    assert next(values, None) is None


def test_how_long_a_critic_may_train() -> None:
    longest = limit("membership.overtraining_seconds")
    _require_time(longest / OVERTRAINING_STEPS, longest)
    with pytest.raises(AuditError, match="about 10 minutes here, 10 are allowed"):
        _require_time(1.001 * longest / OVERTRAINING_STEPS, longest)
