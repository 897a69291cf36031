"""Limits of what is said of labels of generated volumes: a verdict on either side of each."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Finding
from fastgan.audit.labels.generated import judge_generated
from fastgan.audit.labels.instrument import Instrument
from fastgan.errors import AuditError
from tests.audit.judged import CLASSES, SMALL, UNIT, cohort, verdict_of


class Told:
    """An ensemble whose reading stands in the first voxel: the class by its sign, how surely."""

    members: tuple[int, ...] = (0, 0, 0)
    provenance = "told"

    def probabilities(self, values, subjects=None):
        said = values[:, 0, 0, 0].astype(np.float64)
        second = np.where(said > 0, np.abs(said), 1 - np.abs(said))
        return np.stack([1 - second, second], axis=1)


def told(truth: np.ndarray, wrong: int, sure: float | np.ndarray, name: str) -> Cohort:
    """Volumes of which the first `wrong` of each class are read as the other."""
    read = truth.copy()
    for c in (0, 1):
        at = np.flatnonzero(truth == c)[:wrong]
        read[at] = 1 - c
    values = np.zeros((len(truth), *SMALL))
    values[:, 0, 0, 0] = np.where(read == 1, sure, -np.asarray(sure))
    return cohort(values, name, truth)


def labels_judged(
    made: Cohort, patients: int = 400, misread: int = 0, sure: float | np.ndarray = 0.95
) -> Finding:
    truth = np.arange(2 * patients) % 2
    real = told(truth, misread, sure, "training")
    held = told(np.arange(40) % 2, 0, 0.95 if np.isscalar(sure) else sure[:40], "held-out")
    case = Evidence(real, held, made, UNIT, CLASSES)
    read = Told().probabilities(held.values)
    tool = Instrument(Told(), read, 0.9, (0.8, 0.95), 0.6, 0.6, 0.1, 0.1)
    return judge_generated(case, Options(planted=20), tool)


def generated(each: int, wrong: int, sure: float = 0.95) -> Cohort:
    return told(np.arange(2 * each) % 2, wrong, sure, "generated")


@pytest.mark.parametrize(("wrong", "verdict"), [(8, "pass"), (14, "cannot tell")])
def test_share_of_wrong_labels_in_all(wrong, verdict) -> None:
    """16 of 300 clear volumes are at most 9 % (97.5 %), 28 at most 14 %."""
    finding = labels_judged(generated(150, wrong), misread=16)
    assert verdict_of(finding) == verdict


@pytest.mark.parametrize(("each", "answered"), [(20, True), (19, False)])
def test_generated_volumes_of_a_class(each, answered) -> None:
    if answered:
        assert labels_judged(generated(each, 0)).value == 0.0
    else:
        with pytest.raises(AuditError, match="19 generated volumes of class"):
            labels_judged(generated(each, 0))


@pytest.mark.parametrize(("sure", "verdict"), [(0.901, "pass"), (0.899, "cannot tell")])
def test_probability_from_which_a_volume_is_clear(sure, verdict) -> None:
    assert verdict_of(labels_judged(generated(150, 0, sure))) == verdict


@pytest.mark.parametrize(("sure", "verdict"), [(0.705, "pass"), (0.695, "cannot tell")])
def test_share_of_patients_that_counts_as_clear(sure, verdict) -> None:
    """Patients are read with 0.5 to 0.8, the surest third from 0.7."""
    weak = np.repeat(np.linspace(0.501, 0.8, 400), 2)
    finding = labels_judged(generated(150, 0, sure), sure=weak)
    assert verdict_of(finding) == verdict


@pytest.mark.parametrize(("wrong", "verdict"), [(155, "cannot tell"), (185, "warn")])
def test_misreading_that_clarity_may_explain(wrong, verdict) -> None:
    """5 % of patients are misread, so 10 % of generated volumes may be, and 4 % more: 15.5 % are
    not surely more than 14 %, 18.5 % are.
    """
    finding = labels_judged(generated(1000, wrong), patients=1000, misread=50)
    assert verdict_of(finding) == verdict


@pytest.mark.parametrize(("wrong", "verdict"), [(90, "fail"), (45, "warn")])
def test_wrong_labels_that_condemn(wrong, verdict) -> None:
    """Of 300 a class, 30 % are surely above 10 % beyond any misreading, 15 % only above none."""
    assert verdict_of(labels_judged(generated(300, wrong))) == verdict


def test_swaps_that_must_be_found() -> None:
    finding = labels_judged(generated(150, 0))
    decisive = {c.name: c.decisive for c in finding.controls if c.expected == "found"}
    assert decisive["50% of labels swapped"] and not decisive["30% of labels swapped"]
