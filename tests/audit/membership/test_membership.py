"""Membership judged: planted leaks are found, clean sets are quiet, bad input is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import membership
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Settled, settle
from fastgan.audit.membership import outsider as volumes_alone
from fastgan.audit.membership.contest import Contest
from fastgan.audit.membership.distances import Reals
from fastgan.audit.membership.outsider import Outsider
from fastgan.audit.membership.patients import patients_of
from fastgan.audit.run import audit
from fastgan.audit.statistics import clopper_pearson
from fastgan.errors import AuditError, NotAsked
from tests.audit.membership.conftest import Networks, cohort, known_by, leaking

QUICK = Options(quick=True, permutations=499)
WHOLE = Options(planted=20, permutations=499)


def told(evidence: Evidence, options: Options = QUICK) -> dict[str, Settled]:
    return {s.finding.key: s for s in settle(membership.judge(evidence, options), alpha=0.05)}


# --- what an outsider finds


def test_volumes_pulled_to_training_are_found_and_end_with_3(clean) -> None:
    found = audit(leaking(clean(generated=240), 0.6), WHOLE, only=["membership"])
    verdicts = {s.finding.key: s for s in found.settled if s.finding.judgement == "membership"}
    one = verdicts["membership.volumes"]
    assert (one.verdict, found.exit_code) == ("fail", 3), one.sentence
    assert one.finding.value > 0.8 and one.finding.interval[0] > 0.7
    assert "Share none of them" in one.sentence and "R1" in one.sentence


def test_a_generator_that_knows_nobody_passes_with_its_power(clean, all_splits) -> None:
    found = audit(clean(200, 160, seed=1, generated=150), WHOLE, only=["membership"])
    one = next(s for s in found.settled if s.finding.key == "membership.volumes")
    assert one.verdict == "pass", one.sentence
    assert "of the way to a training volume, which gives an AUC of 0." in one.sentence
    controls = one.finding.controls
    curve = [c.rate for c in controls if "pulled" in c.name]
    assert len(curve) == 4 and curve == sorted(curve) and curve[0] < 0.9 < curve[-1]
    assert all(c.held for c in controls if c.expected == "quiet")
    insider = next(s for s in found.settled if s.finding.key == "membership.checkpoint")
    assert insider.verdict == "not asked" and "no checkpoint" in insider.sentence
    assert found.exit_code == 0


def test_no_alarm_without_a_leak_whatever_the_volumes_a_patient_has(clean) -> None:
    """Size of the whole way of an outsider, over null sets with 1 to 4 volumes a patient."""
    rejected, runs = 0, 300
    for seed in range(runs):
        each = (1, 2, 4)[seed % 3]
        evidence = clean(24, 16, seed=100 + seed, each=each, generated=20)
        patients = patients_of(evidence, np.random.default_rng(seed))
        scores = Outsider(Reals(patients, mirrored=False), evidence.require_generated()).scores()
        contest = Contest.draw(24, 40, np.random.default_rng(seed), 199)
        rejected += contest.p(scores, patients.member) <= 0.05
    assert clopper_pearson(rejected, runs, 0.99, "lower")[0] <= 0.05


def test_a_distance_of_pulled_volumes_is_that_of_volumes_made_so(clean) -> None:
    evidence = replace(clean(30, 20, generated=15), augmentations=("flip",))
    patients = patients_of(evidence, np.random.default_rng(0))
    reals = Reals(patients, mirrored=True)
    made = evidence.require_generated()
    targets = np.flatnonzero(patients.member[patients.owner])
    by_law = Outsider(reals, made).pulled(0.3, targets, np.random.default_rng(5))
    drawn = patients.values[np.random.default_rng(5).choice(targets, len(made))]
    by_hand = Outsider(reals, replace(made, values=0.7 * made.values + 0.3 * drawn)).scores()
    assert np.allclose(by_law, by_hand, atol=1e-3)


def test_copies_that_are_mirrored_are_seen_where_training_mirrored(clean) -> None:
    evidence = clean()
    copied = np.flip(evidence.training.values[:80], axis=2).copy()
    evidence = replace(evidence, generated=replace(evidence.require_generated(), values=copied))
    areas = {
        used: told(replace(evidence, augmentations=used))["membership.volumes"].finding.value
        for used in (("flip",), (), None)
    }
    assert areas["flip",] > 0.75 and areas[None] > 0.75 and areas[()] < 0.65


def test_a_split_by_site_is_noticed(clean, all_splits) -> None:
    """Training patients of one kind, held-out ones of another: told apart without any leak."""
    evidence = clean(80, 60, seed=4)
    shifted = replace(evidence.training, values=np.clip(evidence.training.values + 0.2, -1, 1))
    made = replace(evidence.require_generated(), values=cohort("g", 80, 77).values + 0.2)
    one = told(replace(evidence, training=shifted, generated=made), WHOLE)["membership.volumes"]
    assert one.verdict == "cannot tell" and "posing as generated" in one.sentence


# --- what an insider finds


def test_a_critic_that_knows_its_patients_is_a_warning(clean) -> None:
    found = told(known_by(clean(), critic=1.5), WHOLE)
    one = found["membership.checkpoint"]
    assert one.verdict == "warn", one.sentence
    assert "never the critic" in one.sentence and one.finding.value > 0.8
    assert found["membership.volumes"].verdict == "pass"


def test_a_generator_that_is_inverted_fails(clean) -> None:
    one = told(known_by(clean(), inverse=0.7), WHOLE)["membership.checkpoint"]
    assert one.verdict == "fail" and "neither the generator nor the critic" in one.sentence


def test_networks_that_know_nobody_pass_only_if_a_copy_can_be_taught(clean) -> None:
    evidence = clean(200, 160)
    one = told(known_by(evidence), WHOLE)["membership.checkpoint"]
    assert one.verdict == "pass", one.sentence
    assert "trained on 20 held-out patients alone" in one.sentence
    rates = {c.name: c.rate for c in one.finding.controls if c.expected == "found"}
    assert rates["scores of members raised to an AUC of 0.65"] > 0.8
    assert rates["scores of members raised to an AUC of 0.55"] < 0.6
    dull = told(known_by(evidence, learns=False), WHOLE)["membership.checkpoint"]
    assert dull.verdict == "cannot tell" and "20 held-out patients alone" in dull.sentence
    slow = told(known_by(evidence, seconds=1e6), WHOLE)["membership.checkpoint"]
    assert slow.verdict == "cannot tell" and "90 minutes" in slow.sentence
    quick = told(known_by(evidence))["membership.checkpoint"]
    assert quick.verdict == "cannot tell" and "Power unmeasured" in quick.sentence


def test_an_untrained_critic_that_tells_takes_the_verdict_away(clean) -> None:
    """It never saw these patients and knows their side: it is the split that is told."""
    evidence = clean()

    class Sided(Networks):
        def blank(self, values, labels):
            return 2.0 * self._known(values, labels) + self._noise(values, 2)

    sided = Sided(evidence.training.values, critic=2.0)
    one = told(replace(evidence, insider=sided), WHOLE)["membership.checkpoint"]
    assert one.verdict == "cannot tell" and "never trained" in one.sentence


def test_size_and_power_of_critics_scores(clean) -> None:
    evidence = clean(60, 40, each=3)
    patients = patients_of(evidence, np.random.default_rng(0))
    contest = Contest.draw(60, 100, np.random.default_rng(1), 199)
    rng, rejected = np.random.default_rng(2), {0.0: 0, 1.5: 0}
    for raised in rejected:
        for _ in range(300):
            of_volumes = rng.standard_normal(len(patients.owner))
            of_volumes += raised * patients.member[patients.owner]
            p = contest.p(patients.mean(of_volumes)[None], patients.member)
            rejected[raised] += p <= 0.05
    assert clopper_pearson(rejected[0.0], 300, 0.99, "lower")[0] <= 0.05
    assert rejected[1.5] > 290


# --- bad input


def test_one_held_out_patient_says_how_many_are_needed(clean) -> None:
    with pytest.raises(AuditError, match=r"at least 10 patients on both sides .* 1 held out"):
        membership.judge(clean(40, 1), QUICK)
    found = audit(clean(40, 1), QUICK, only=["membership"])
    assert found.exit_code == 4 and "1 held out" in found.settled[1].sentence


def test_volumes_that_are_all_the_same_are_refused(clean) -> None:
    evidence = clean()
    flat = {
        name: replace(one, values=np.zeros_like(one.values))
        for name, one in (("training", evidence.training), ("holdout", evidence.holdout))
    }
    with pytest.raises(AuditError, match="all 200 training and held-out volumes are the same"):
        membership.judge(replace(evidence, **flat), QUICK)


def test_generated_volumes_that_are_all_the_same_cannot_pass_quickly(clean) -> None:
    evidence = clean()
    made = evidence.require_generated()
    same = replace(made, values=np.repeat(made.values[:1], len(made), axis=0))
    one = told(replace(evidence, generated=same))["membership.volumes"]
    assert one.verdict == "cannot tell" and 0.3 < one.finding.value < 0.7


def test_without_generated_volumes_the_checkpoint_is_asked_alone(clean) -> None:
    found = told(replace(known_by(clean(), critic=2.0), generated=None), QUICK)
    assert "no generated volumes were given" in found["membership.volumes"].sentence
    assert found["membership.volumes"].verdict == "cannot tell"
    assert found["membership.checkpoint"].verdict == "warn"


def test_networks_that_ask_for_labels_which_are_missing(clean) -> None:
    one = told(known_by(clean(), conditional=True))["membership.checkpoint"]
    assert one.verdict == "cannot tell" and "have no labels" in one.sentence


def test_critics_that_are_damaged_or_absent(clean) -> None:
    def damaged():
        raise AuditError("the critic cannot be used: of another architecture")

    def absent():
        raise NotAsked("ckpt-3 holds no critic")

    for insider, verdict in ((damaged, "cannot tell"), (absent, "not asked")):
        found = told(replace(clean(), insider=insider))
        assert found["membership.checkpoint"].verdict == verdict
        assert found["membership.volumes"].finding.value is not None


def test_scores_that_are_not_finite_are_named(clean) -> None:
    class Broken(Networks):
        def critic(self, values, labels):
            return np.full(len(values), np.nan)

    one = told(replace(clean(), insider=Broken(np.zeros((0, 1)))))["membership.checkpoint"]
    assert one.verdict == "cannot tell" and "200 scores are not finite" in one.sentence


def test_a_translator_is_not_asked(clean) -> None:
    with pytest.raises(NotAsked, match="translator"):
        membership.judge(replace(clean(), translate=lambda volumes: volumes), QUICK)


def test_patients_without_names_never_pass(clean) -> None:
    evidence = clean(200, 160)
    unnamed = replace(evidence, training=replace(evidence.training, subjects_named=False))
    one = told(unnamed, WHOLE)["membership.volumes"]
    assert one.verdict == "cannot tell" and "do not say whose volumes" in one.sentence


def test_more_volumes_than_are_attacked_are_drawn_by_patient(clean, monkeypatch) -> None:
    monkeypatch.setattr("fastgan.audit.membership.patients.MOST_VOLUMES", 100)
    patients = patients_of(clean(120, 80, each=4), np.random.default_rng(0))
    assert 80 < len(patients.owner) <= 100 and patients.owner.max() + 1 == patients.n
    assert 10 <= patients.n_members < patients.n - 9
    with pytest.raises(AuditError, match="of one side are among them"):
        patients_of(clean(300, 12, each=4), np.random.default_rng(0))


def test_rates_say_how_many_held_out_patients_they_need(clean) -> None:
    (finding, _) = membership.judge(clean(120, 80), QUICK)
    rows = [row for row in finding.tables[1].rows if row[0] == volumes_alone.ATTACKS[0]]
    assert [row[2] for row in rows] == ["cannot tell", "cannot tell"]
    assert [row[4] for row in rows] == ["80 held out, 100 needed", "80 held out, 1,000 needed"]
    (finding, _) = membership.judge(clean(120, 150), QUICK)
    first = finding.tables[1].rows[0]
    assert "of 120)" in first[2] and first[4] == "1 of 150"


def test_the_same_seed_gives_the_same_finding(clean) -> None:
    one, two = (told(known_by(clean(), critic=1.0), WHOLE) for _ in range(2))
    for key in one:
        assert one[key].sentence == two[key].sentence
        assert one[key].finding.controls == two[key].finding.controls
