"""Label judgements on phantoms: what keeps labels, what changes them, who cannot tell."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import labels
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.labels import classifier
from fastgan.audit.labels.alterations import AUGMENTATIONS, destroy
from fastgan.audit.labels.classifier import train_ensemble
from fastgan.audit.labels.generated import decided, judge_generated
from fastgan.audit.labels.instrument import instrument, within_strata
from fastgan.audit.labels.noise import (
    Clear,
    clear,
    noise,
    reader,
    sure_from,
    wrong_labels_of_patients,
)
from fastgan.audit.phantoms.volumes import CLASSES, phantoms
from fastgan.audit.statistics import auc
from fastgan.errors import AuditError
from tests.audit.labels.conftest import EASY, UNIT

STEPS = 30


@pytest.fixture(scope="module")
def easy():
    return {
        "training": phantoms(EASY, 90, seed=1).first,
        "held-out": phantoms(EASY, np.arange(1000, 1100), seed=1, name="held-out").first,
        "generated": phantoms(EASY, np.arange(2000, 2200), seed=1, name="generated").first,
    }


@pytest.fixture(scope="module")
def ensemble(easy):
    return train_ensemble(easy["training"], 2, np.random.default_rng(0), steps=STEPS)


@pytest.fixture
def evidence(easy, ensemble, monkeypatch):
    """Evidence whose classifier is trained already."""

    def trained(cohort, *settings, **more):
        known = cohort is easy["training"]
        return ensemble if known else train_ensemble(cohort, *settings, **more)

    monkeypatch.setattr("fastgan.audit.labels.instrument.train_ensemble", trained)
    return Evidence(
        easy["training"],
        easy["held-out"],
        easy["generated"],
        UNIT,
        CLASSES,
        "ct",
        augmentations=("flip", "rotate"),
    )


OPTIONS = Options(planted=60)
QUICK = Options(quick=True)


def settled(evidence, options=OPTIONS):
    found = labels.judge(evidence, options)
    return {s.finding.key: s for s in settle(found, alpha=0.05)}


def test_a_sound_run_passes_and_its_controls_hold(evidence):
    found = settled(evidence)
    assert {key: s.verdict for key, s in found.items()} == {
        "labels.classifier": "pass",
        "labels.augmentation": "pass",
        "labels.generated": "pass",
        "labels.laws": "pass",
    }
    controls = found["labels.augmentation"].finding.controls
    assert len([c for c in controls if c.decisive]) == 4
    assert all(c.held for c in controls if c.decisive)
    rows = {row[0] for row in found["labels.augmentation"].finding.tables[0].rows}
    assert rows == {*AUGMENTATIONS, "harmless change"}
    assert found["labels.classifier"].finding.value > 0.9


def test_an_augmentation_that_erases_lesions_fails(evidence, monkeypatch):
    def erasing(name, values, rng, spacing):
        return destroy("lesion erased", values, "ct")

    monkeypatch.setattr("fastgan.audit.labels.augmentation.alter", erasing)
    one = settled(evidence, QUICK)["labels.augmentation"]
    assert one.verdict == "fail"
    assert one.sentence.startswith("flip and rotate changes labels")


def test_quick_plants_nothing_and_an_unknown_augmentation_is_no_pass(evidence):
    found = settled(replace(evidence, augmentations=("flip", "cutout")), QUICK)
    assert all(not s.finding.controls for s in found.values())
    # Only what needs no controls.
    passed = {key for key, s in found.items() if s.verdict == "pass"}
    assert passed <= {"labels.classifier", "labels.laws"}
    assert "cutout" in found["labels.augmentation"].sentence


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_swapped_labels_fail(evidence, share):
    made = evidence.generated
    wrong = np.random.default_rng(0).random(len(made)) < share
    swapped = replace(made, labels=np.where(wrong, 1 - made.labels, made.labels))
    tool = instrument(evidence, QUICK)
    one = judge_generated(replace(evidence, generated=swapped), QUICK, tool)
    assert one.accepted.verdict == "fail"
    assert one.value == pytest.approx(share, abs=0.12)


def test_a_classifier_that_reads_nothing_cannot_tell(easy, monkeypatch):
    rng = np.random.default_rng(0)
    blind = {k: replace(c, labels=rng.integers(0, 2, len(c))) for k, c in easy.items()}
    monkeypatch.setattr(classifier, "STEPS", 5)
    found = settled(
        Evidence(
            blind["training"],
            blind["held-out"],
            blind["generated"],
            UNIT,
            CLASSES,
            augmentations=("flip",),
        ),
        QUICK,
    )
    for key in ("labels.classifier", "labels.augmentation", "labels.generated"):
        assert found[key].verdict == "cannot tell"
        assert "not surely above 0.65" in found[key].sentence


def test_refuses_what_cannot_be_judged(evidence, easy):
    with pytest.raises(AuditError, match="no classes"):
        labels.judge(replace(evidence, training=replace(easy["training"], labels=None)), OPTIONS)
    few = np.nonzero(easy["held-out"].labels == 0)[0][:4]
    kept = np.concatenate([few, np.nonzero(easy["held-out"].labels == 1)[0]])
    with pytest.raises(AuditError, match="4 held-out subjects of class benign"):
        labels.judge(replace(evidence, holdout=easy["held-out"].subset(kept)), OPTIONS)
    one_class = np.nonzero(easy["training"].labels == 1)[0]
    with pytest.raises(AuditError, match="class 0 has 0 training subjects"):
        train_ensemble(easy["training"].subset(one_class), 2, np.random.default_rng(0))
    made = easy["generated"].subset(np.arange(12))
    few_made = settled(replace(evidence, generated=made), QUICK)["labels.generated"]
    assert few_made.verdict == "cannot tell" and "at least 20" in few_made.sentence


def test_the_ensemble_is_deterministic_and_leaves_its_subjects_out(easy, ensemble):
    once, again, other = (
        train_ensemble(easy["training"], 2, np.random.default_rng(seed), steps=3).digest
        for seed in (0, 0, 1)
    )
    assert once == again != other
    assert sorted(ensemble.left_out) == sorted(set(easy["training"].subjects))
    assert np.bincount(list(ensemble.left_out.values())).tolist() == [30, 30, 30]
    training = easy["training"]
    apart = ensemble.probabilities(training.values, training.subjects)
    member = ensemble.left_out[str(training.subjects[0])]
    alone = replace(ensemble, members=(ensemble.members[member],), left_out={})
    assert np.allclose(apart[0], alone.probabilities(training.values[:1])[0], atol=1e-5)
    assert ensemble.features(training.values[:3]).shape == (3, 3 * 64)
    assert auc(apart[:, 1], training.labels == 1) > 0.9


def test_training_leaves_the_global_generator_alone(easy):
    import torch

    before = torch.get_rng_state()
    train_ensemble(easy["training"], 2, np.random.default_rng(0), steps=1)
    assert torch.equal(before, torch.get_rng_state())


# Label noise


def read_as(true, separation, rng, noise=0.0, subjects=None, calibrated=2.0):
    """Probabilities of a calibrated classifier of two classes that lie `separation` apart.

    It was calibrated on classes that are `calibrated` apart; subjects' volumes resemble each other.
    """
    drawn = rng.standard_normal(len(true))
    if subjects is not None:
        own = rng.standard_normal(subjects.max() + 1)
        drawn = np.sqrt(0.8) * own[subjects] + np.sqrt(0.2) * drawn
    score = separation * (true - 0.5) + drawn
    said = 1 / (1 + np.exp(-calibrated * score))
    wrong = rng.random(len(true)) < noise
    return np.stack([1 - said, said], axis=1), np.where(wrong, 1 - true, true)


def of_patients(rng, count=200, volumes=1, separation=3.0, wrong=0.0):
    who = np.repeat(np.arange(count), volumes)
    said, labels = read_as(who % 2, separation, rng, wrong, who, separation)
    return reader(said, labels, np.array([f"P{i}" for i in who]))


def verdict_of(real, share, clarity, rng, count=300, separation=3.0):
    true = np.arange(count) % 2
    said, labels = read_as(true, separation * clarity, rng, share, calibrated=separation)
    return decided(real, clear(said, labels, real.sure), CLASSES, 200).verdict


@pytest.mark.parametrize("clarity", [1.0, 1.3, 1.6])
def test_wrong_labels_of_clearer_volumes_do_not_pass(clarity):
    """Clear volumes are read better than patients: that must not cancel the swapped ones."""
    rng = np.random.default_rng(5)
    said = [verdict_of(of_patients(rng), 0.15, clarity, rng) for _ in range(40)]
    assert said.count("pass") == 0
    assert said.count("fail") + said.count("warn") > 20


@pytest.mark.parametrize(("clarity", "volumes"), [(1.0, 1), (1.3, 1), (1.0, 4), (1.3, 4)])
def test_right_labels_are_no_finding_however_clear(clarity, volumes):
    rng = np.random.default_rng(6)
    said = [verdict_of(of_patients(rng, volumes=volumes), 0.0, clarity, rng) for _ in range(60)]
    assert said.count("fail") + said.count("warn") <= 2
    assert said.count("pass") >= 54


@pytest.mark.parametrize(("share", "least"), [(0.15, 12), (0.3, 28)])
def test_swapped_labels_are_found_by_a_middling_classifier(share, least):
    """An AUC of .93: the surest third of the patients is misread in one of twenty."""
    rng = np.random.default_rng(9)
    said = [
        verdict_of(of_patients(rng, separation=2.1), share, 1.0, rng, separation=2.1)
        for _ in range(30)
    ]
    assert said.count("pass") == 0
    assert said.count("fail") + said.count("warn") >= least


@pytest.mark.parametrize(("separation", "volumes"), [(3.0, 4), (2.1, 1), (2.1, 4)])
def test_right_labels_of_volumes_that_are_less_clear_hardly_ever_alarm(separation, volumes):
    rng = np.random.default_rng(10)
    said = [
        verdict_of(
            of_patients(rng, volumes=volumes, separation=separation),
            0.0,
            0.85,
            rng,
            separation=separation,
        )
        for _ in range(60)
    ]
    assert said.count("fail") + said.count("warn") <= 4  # of 60, at 2.5 %: 99 % of the binomial


def test_what_would_do_does():
    """The number of volumes in the advice leads to a verdict, where shares stay as they are."""
    rng = np.random.default_rng(11)
    real = of_patients(rng, 400)
    few = Clear(np.array([20, 20]), np.array([15, 15]), np.array([0, 0]))
    outcome = decided(real, few, CLASSES, 400)
    told = re.search(r"Next: generate about ([\d,]+) volumes", outcome.sentence)
    assert outcome.verdict == "cannot tell" and told, outcome.sentence
    times = int(told[1].replace(",", "")) / 40
    assert 1 < times <= 16
    counts, surely, off = (
        np.rint(times * column).astype(int) for column in (few.counts, few.clear, few.disagree)
    )
    more = Clear(counts, surely, off)
    assert decided(real, more, CLASSES, 400).verdict == "pass"


def test_where_no_number_would_do_the_advice_says_why():
    """Half as many wrong labels as are tolerated, under a classifier that errs as often."""
    who = np.arange(400)
    said = np.where(who % 13 == 0, 1 - who % 2, who % 2)
    real = reader(np.eye(2)[said], who % 2, np.array([f"P{i}" for i in who]))
    made = Clear(np.array([150, 150]), np.array([150, 150]), np.array([20, 20]))
    outcome = decided(real, made, CLASSES, 400)
    assert outcome.verdict == "cannot tell", outcome.sentence
    assert "no number up to 16 times as many would do" in outcome.sentence


def test_wrong_labels_of_the_patients_are_told_and_are_no_finding():
    rng = np.random.default_rng(7)
    real = of_patients(rng, wrong=0.1)
    assert wrong_labels_of_patients(real) == pytest.approx(0.1, abs=0.05)
    # The generator learned them: it is wrong as often as the patients are.
    true = np.arange(300) % 2
    said, labels = read_as(true, 3.0, rng, 0.1, calibrated=3.0)
    outcome = decided(real, clear(said, labels, real.sure), CLASSES, 200)
    assert outcome.verdict == "cannot tell"
    assert "of the patients' own labels, where it reads clearly" in outcome.sentence
    assert "check the patients' labels" in outcome.sentence


def test_volumes_that_are_hardly_read_cannot_be_told():
    rng = np.random.default_rng(8)
    real, true = of_patients(rng), np.arange(300) % 2
    said, labels = read_as(true, 0.5, rng, calibrated=1.0)
    outcome = decided(real, clear(said, labels, real.sure), CLASSES, 200)
    assert outcome.verdict == "cannot tell" and "is unsure of" in outcome.sentence


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_the_share_of_wrong_labels_lies_within_its_bounds(share):
    rng = np.random.default_rng(0)
    said, labels = read_as(np.arange(4000) % 2, 3.0, rng, share, calibrated=3.0)
    real = of_patients(rng, 2000)
    got = noise(real, clear(said, labels, real.sure))
    assert got.share == pytest.approx([share, share], abs=0.04)
    assert (got.low <= share).all() and (got.high >= share).all()
    assert got.overall_low <= share <= got.overall_high


def test_bounds_of_label_noise_hold_their_level():
    """A 95 % bound is missed in at most 5 % of runs, whether volumes are clearer or not."""
    for clarity in (1.0, 1.5):
        rng, missed = np.random.default_rng(1), 0
        for _ in range(100):
            true = np.arange(500) % 2
            said, labels = read_as(true, 3.0 * clarity, rng, 0.1, calibrated=3.0)
            real = of_patients(rng)
            got = noise(real, clear(said, labels, real.sure))
            missed += int((got.high < 0.1).sum() + (got.low > 0.1).sum())
        assert missed / 400 < 0.05


def test_no_volume_read_clearly_bounds_nothing():
    none = Clear(np.array([30, 30]), np.array([0, 30]), np.array([0, 0]))
    got = noise(of_patients(np.random.default_rng(2)), none)
    assert (got.low[0], got.high[0]) == (0.0, 1.0) and got.high[1] < 0.2


def test_resembling_volumes_of_a_subject_count_for_less():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(100), 4)
    true = who % 2
    said = np.where(rng.random(100)[who] < 0.8, true, 1 - true)  # all four or none
    real = reader(np.eye(2)[said], true, np.array([f"P{i}" for i in who]))
    assert (real.misread_size < 70).all() and (real.misread_size > 30).all()
    # Class 0 is read as class 1, and never surely, but for four patients.
    odd = np.where((true == 0) & (who >= 8), 0.4, 1.0)
    other = np.stack([np.where(true == 0, odd, 0.0), np.where(true == 0, 1 - odd, 1.0)], axis=1)
    with pytest.raises(AuditError, match="4 patients of class 0 clearly"):
        reader(other, true, np.array([f"P{i}" for i in who]))


def test_a_weak_classifier_is_asked_where_it_is_surest():
    """Hardly any reading reaches 0.9: the surest third of the patients of a class speaks."""
    most = np.linspace(0.5, 0.8, 301)[1:]
    read = np.stack([most, 1 - most], axis=1)
    assert sure_from(np.concatenate([read, read[:, ::-1]])) == pytest.approx([0.7, 0.7], abs=0.002)
    certain = np.full((30, 2), [0.99, 0.01])
    assert sure_from(certain).tolist() == [0.9, 0.9]  # nobody is read as the other class


def test_within_strata_ignores_what_size_tells():
    size = np.repeat([0, 1], 50)
    true = np.repeat([0, 1], 50)
    true[::10] = 1 - true[::10]
    by_size = np.stack([1.0 - size, size], axis=1).astype(float)
    assert within_strata(by_size, true, size) == pytest.approx(0.5)


def test_a_cohort_of_one_volume_per_class_is_refused():
    values = np.zeros((2, 16, 16, 16), np.float32)
    tiny = Cohort("training", values, np.array(["a", "b"]), np.array([0, 1]))
    with pytest.raises(AuditError, match="at least 10"):
        train_ensemble(tiny, 2, np.random.default_rng(0))
