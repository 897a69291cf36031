"""Wrong labels of generated volumes and of patients, read by classifiers of known skill."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastgan.audit.labels.generated import decided
from fastgan.audit.labels.noise import (
    Clear,
    clear,
    noise,
    reader,
    sure_from,
    wrong_labels_of_patients,
)
from fastgan.audit.phantoms.volumes import CLASSES
from fastgan.errors import AuditError


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
