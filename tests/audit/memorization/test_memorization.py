"""Memorization: what is found, what raises no alarm, what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from fastgan.audit import memorization
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.likeness.moves import mirrored
from fastgan.audit.likeness.outliers import CopyTest, isolation, ratio
from fastgan.audit.memorization import figures as memorization_figures
from fastgan.audit.memorization.planted_copies import OF_MASKS
from fastgan.audit.memorization.prevalence import Sides, nearest_subject
from fastgan.audit.memorization.split_by_chance import Neighbourhood
from fastgan.errors import AuditError
from fastgan.ops import nearest

QUICK = Options(quick=True, permutations=199)
FULL = Options(planted=48)  # copies of 24 volumes may all lie on one side by chance


def of(query, target, groups=None):
    exclude = None if groups is None else (torch.from_numpy(groups),) * 2
    return nearest(torch.from_numpy(query), torch.from_numpy(target), 10, exclude=exclude)[0]


def p_of_features(training, holdout, made, subjects=None) -> float:
    subjects = np.arange(len(training)) if subjects is None else subjects
    null = [of(holdout, training), of(training, training, subjects)]
    test = CopyTest.fit([isolation(torch.cat(null).numpy())])
    return test.p_any([isolation(of(made, training).numpy())])


def features(count: int, seed: int) -> np.ndarray:
    """Two clusters of 24 normal features."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 24)) + 3.0 * (rng.random((count, 1)) < 0.5)


def test_one_near_copy_among_many_is_found():
    training, holdout, made = features(400, 0), features(300, 1), features(500, 2)
    assert p_of_features(training, holdout, made) > 0.05
    typical = float(of(holdout, training)[:, 0].median())
    rng = np.random.default_rng(3)
    made[7] = training[11] + 0.1 * typical / np.sqrt(24) * rng.standard_normal(24)
    assert p_of_features(training, holdout, made) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_poor_generators_raise_no_alarm(seed):
    training, holdout = features(400, 10 + seed), features(300, 20 + seed)
    made = features(500, 30 + seed)
    shrunken = made.mean(axis=0) + 0.5 * (made - made.mean(axis=0))
    dropped = made[made.mean(axis=1) < 1.5]
    assert p_of_features(training, holdout, shrunken) > 0.01
    assert p_of_features(training, holdout, dropped) > 0.01


def test_duplicated_training_patients_raise_no_alarm():
    training, holdout, made = features(400, 40), features(300, 41), features(500, 42)
    twice = np.concatenate([training, training[:20]])
    assert p_of_features(twice, holdout, made) > 0.01
    known = np.concatenate([np.arange(400), np.arange(20)])
    assert p_of_features(twice, holdout, made, known) > 0.01


def test_ratio_of_copies_and_of_equals():
    assert ratio(np.array([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])).tolist() == [0.0, 1.0]


def test_share_is_half_by_chance_and_one_for_copies():
    sides = Sides.draw(30, 10, np.random.default_rng(0), 999)
    assert sides.share(np.arange(40) < 30) == 0.5  # as many as their number says
    assert sides.share(np.ones(5, bool)) == 1.0
    # 40 of 100 copied, the rest by chance: 1/2 + 0.4/2.
    assert sides.share(np.arange(100) < 40 + 45) == pytest.approx(0.7)


def test_exchange_counts_volumes_of_one_subject_as_one_unit():
    sides = Sides.draw(50, 50, np.random.default_rng(0), 999)
    alone = sides.p(np.zeros(200, np.int64), np.ones(200, bool))
    assert alone == pytest.approx(0.5, abs=0.06)
    assert sides.p(np.arange(50), np.ones(50, bool)) == 0.001


@pytest.mark.parametrize("places", [3, 12, 30])
def test_exchange_has_its_size_with_few_distinct_neighbours(places):
    rng = np.random.default_rng(5)
    sides = Sides.draw(40, 20, rng, 199)
    p = []
    for _ in range(2000):
        # A generator that draws from a few places only.
        place = rng.permutation(60)[:places][rng.integers(places, size=150)]
        trained = place < 40
        p.append(sides.p(np.where(trained, place, place - 40), trained))
    rejected = np.mean(np.array(p) <= 0.05)
    # At a true 5 % more than 6.5 % of 2,000 come once in 1,000; three places cannot reach 5 %.
    assert rejected <= 0.065 and (rejected > 0.03) == (places > 3)


def test_equal_distances_count_as_held_out():
    subject, trained = nearest_subject([1.0, 2.0], [3, 4], [1.0, 3.0], [8, 9])
    assert trained.tolist() == [False, True] and subject.tolist() == [8, 4]


def with_generated(evidence: Evidence, values: np.ndarray) -> Evidence:
    assert evidence.generated is not None
    made = dataclasses.replace(evidence.generated, values=values)
    return dataclasses.replace(evidence, generated=made)


def verdicts(evidence: Evidence, options: Options, *, pictures: bool = False) -> dict:
    """Question -> settled finding. Drawing takes longer than judging, so it is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:
            patch.setattr(memorization_figures, "canvas", lambda *_, **__: None)
        found = memorization.judge(evidence, options)
    return {s.finding.key.split(".")[1]: s for s in settle(found, alpha=0.05)}


def test_clean_volumes_pass_and_the_controls_hold(clean):
    settled = verdicts(clean, FULL)
    copies = settled["copies"].finding
    assert settled["copies"].verdict == "pass"
    assert "no evidence" in settled["copies"].sentence.lower()
    assert settled["prevalence"].verdict in ("pass", "cannot tell")  # 60 volumes say little
    decisive = {control.name: control for control in copies.controls if control.decisive}
    assert set(decisive) == {
        "one copy with noise 0.1",
        *(f"one copy {kind}, noise 0.1" for kind in OF_MASKS),
        next(c.name for c in copies.controls if c.expected == "quiet"),
    }
    assert all(control.held for control in decisive.values())
    flip = next(c for c in copies.controls if c.name == "one copy mirrored, noise 0.1")
    assert flip.rate == 1.0
    assert "0.1" in copies.power and len(copies.tables) == 2
    low, high = settled["prevalence"].finding.interval
    assert low <= settled["prevalence"].finding.value <= high
    shares = [c.rate for c in settled["prevalence"].finding.controls if c.expected == "found"]
    assert shares[:5] == sorted(shares[:5]) and shares[4] == 1.0
    assert [c.held for c in settled["prevalence"].finding.controls[-2:]] == [True, True]


def test_a_split_that_is_not_by_chance_cannot_be_judged(clean):
    # The hospital of the training set draws softer masks, which are the nearest to each other.
    softer = dataclasses.replace(clean.training, values=0.7 * clean.training.values - 0.3)
    settled = verdicts(dataclasses.replace(clean, training=softer), FULL)["prevalence"]
    posing = {c.name.split()[0]: c for c in settled.finding.controls if c.expected == "quiet"}
    assert not posing["training"].held and posing["training"].rate == 1.0
    assert settled.verdict != "pass"


def test_posing_patients_raise_alarms_where_a_split_keeps_neighbours_together():
    # 60 subjects in pairs of neighbours: random splits cut many of the pairs.
    rng = np.random.default_rng(0)
    own = np.arange(60)
    near = np.stack([own ^ 1, *(rng.permutation(60) for _ in range(5))], axis=1)
    around = Neighbourhood(own, near, 40, 20)
    options = Options(permutations=199)

    def rate(training: np.ndarray) -> float:
        return around.alarm_rate(training, training, 60, options, np.random.default_rng(1))

    whole = own < 40  # no pair is cut
    usual = [rate(rng.permutation(whole)) for _ in range(40)]
    assert np.mean(usual) < 0.05 and rate(whole) > max(usual)


def test_without_names_of_subjects_nothing_passes_and_copies_still_fail(clean):
    nameless = dataclasses.replace(
        clean, holdout=dataclasses.replace(clean.holdout, subjects_named=False)
    )
    for settled in verdicts(nameless, FULL).values():
        assert settled.verdict == "cannot tell"
        assert "do not say whose volumes they are" in settled.sentence
    values = clean.generated.values.copy()
    values[3] = clean.training.values[5]
    assert verdicts(with_generated(nameless, values), QUICK)["copies"].verdict == "fail"


def test_one_noisy_copy_fails_and_is_shown(clean):
    values = clean.generated.values.copy()
    rng = np.random.default_rng(0)
    values[3] = clean.training.values[5] + 0.01 * rng.standard_normal(values[3].shape)
    options = dataclasses.replace(QUICK, patient_images=True)
    settled = verdicts(with_generated(clean, values), options, pictures=True)
    assert settled["copies"].verdict == "fail"
    (row,) = settled["copies"].finding.tables[0].rows
    assert row[:2] == (3, 5)
    pytest.importorskip("matplotlib")
    pictures = settled["copies"].finding.figures
    assert [figure.patient for figure in pictures] == [False, True]
    for figure in pictures:
        assert figure.png.startswith(b"\x89PNG") and len(figure.png) < 60_000


def test_no_patient_is_drawn_unasked(clean):
    values = clean.generated.values.copy()
    values[0] = clean.training.values[0]
    pytest.importorskip("matplotlib")
    finding = verdicts(with_generated(clean, values), QUICK, pictures=True)["copies"].finding
    assert finding.figures and not any(figure.patient for figure in finding.figures)


def test_every_volume_a_mirrored_copy_fails_as_a_share(clean):
    chosen = np.random.default_rng(1).permutation(160)[:60]
    values = np.stack([mirrored(clean.training.values[i], 1 + i % 7) for i in chosen])
    settled = verdicts(with_generated(clean, values), QUICK)
    assert settled["prevalence"].verdict == "fail"
    assert settled["prevalence"].finding.value == 1.0


def test_loose_copies_fail_as_a_share_though_none_is_an_outlier(clean):
    # Halfway between a training volume and another body: no near copy, but never near a held-out.
    values = 0.6 * clean.training.values[::2][:60] + 0.4 * clean.generated.values
    settled = verdicts(with_generated(clean, values), QUICK)
    assert settled["prevalence"].verdict == "fail"


def test_a_quick_audit_never_passes(clean):
    settled = verdicts(clean, QUICK)
    assert {s.verdict for s in settled.values()} == {"cannot tell"}
    assert all(not s.finding.controls and not s.finding.power for s in settled.values())


def test_the_same_seed_gives_the_same_numbers(clean):
    a, b = (verdicts(clean, QUICK)["prevalence"].finding for _ in range(2))
    assert (a.p, a.interval) == (b.p, b.interval)


def test_constant_generated_volumes_are_left_out(clean):
    values = clean.generated.values.copy()
    values[:5] = -1.0
    assert verdicts(with_generated(clean, values), QUICK)["copies"].finding.n_volumes == 55


def test_too_few_volumes_give_the_least_number(clean):
    small = dataclasses.replace(
        clean,
        training=clean.training.subset(np.arange(60)),
        holdout=clean.holdout.subset(np.arange(10)),
    )
    settled = verdicts(small, QUICK)
    assert settled["copies"].verdict == settled["prevalence"].verdict == "cannot tell"
    assert (
        "at least 120 training and held-out volumes together to know chance, got 70"
        in settled["copies"].sentence
    )
    assert "at least 20 subjects" in settled["prevalence"].sentence


def test_refuses_what_cannot_be_judged(clean):
    training = clean.training
    shared = dataclasses.replace(clean.holdout, subjects=training.subjects[:80])  # 40 of them
    flat = dataclasses.replace(training, values=np.zeros_like(training.values))
    none = training.subset(np.arange(0))
    other = dataclasses.replace(clean.holdout, values=np.zeros((80, 8, 8, 8), np.float32))
    for change, message in (
        ({"holdout": shared}, "40 held-out subjects are in the training set"),
        ({"training": flat}, "160 of 160 training volumes are constant"),
        ({"training": none}, "no training volumes"),
        ({"holdout": other}, "generated volumes are"),
        ({"generated": None}, "no generated volumes"),
        ({"translate": lambda x: x}, "translation"),
    ):
        with pytest.raises(AuditError, match=message):
            memorization.judge(dataclasses.replace(clean, **change), QUICK)
    constant = with_generated(clean, np.zeros_like(clean.generated.values))
    with pytest.raises(AuditError, match="all 60 generated volumes are constant"):
        memorization.judge(constant, QUICK)
