"""Label judgements on phantoms: what keeps labels, what changes them, who cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import labels
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.labels import classifier
from fastgan.audit.labels.alterations import AUGMENTATIONS, destroy
from fastgan.audit.labels.classifier import train_ensemble
from fastgan.audit.labels.generated import judge_generated
from fastgan.audit.labels.instrument import instrument, within_strata
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
