"""What an audit looks at: labels asked for, subjects counted, and what is missing, said."""

from __future__ import annotations

import numpy as np
import pytest

from fastgan.audit.evidence import (
    LEAST_SUBJECTS,
    LEAST_TO_FIT,
    Cohort,
    Evidence,
    Options,
    require_labels,
    subjects_by,
)
from fastgan.errors import AuditError, NotAsked


def cohort(labels=None, subjects=None, count: int = 4, **more) -> Cohort:
    count = count if labels is None else len(labels)
    names = [f"p{i}" for i in range(count)] if subjects is None else subjects
    values = np.zeros((count, 2, 2, 2), np.float32)
    given = None if labels is None else np.array(labels)
    return Cohort("training", values, np.array(names), given, **more)


def test_the_defaults_are_the_rules() -> None:
    options = Options()
    assert (options.alpha, options.planted, options.permutations) == (0.05, 300, 999)
    assert (LEAST_SUBJECTS, LEAST_TO_FIT) == (10, 20)
    assert (options.seed, options.quick, options.patient_images) == (0, False, False)


def test_unlabelled_volumes_are_not_asked_for_labels() -> None:
    with pytest.raises(NotAsked, match="the training volumes have no labels"):
        require_labels(cohort())


def test_one_class_cannot_be_told_from_another() -> None:
    with pytest.raises(AuditError, match="the training volumes have one class") as refused:
        require_labels(cohort([0] * 30))
    assert not isinstance(refused.value, NotAsked)


@pytest.mark.parametrize("least", [None, 3])
def test_labels_need_subjects_of_each_class(least) -> None:
    need = 20 if least is None else least
    more = () if least is None else (least,)
    enough = cohort([0] * need + [1] * need)
    assert require_labels(enough, *more).tolist() == [0] * need + [1] * need
    few = cohort([0] * need + [1] * (need - 1))
    with pytest.raises(AuditError, match=f"at least {need} training subjects of each class"):
        require_labels(few, *more)
    with pytest.raises(AuditError, match=f"a: {need}, 1: {need - 1}"):
        require_labels(few, *more, classes=("a",))


def test_subjects_are_counted_once_and_empty_cells_not_at_all() -> None:
    column, subjects = np.array(["a", "a", "", "b"]), np.array(["p", "p", "q", "r"])
    assert subjects_by(column, subjects) == {"a": 1, "b": 1}
    # Two volumes of one subject count once, so these are too few.
    twice = cohort([0, 0, 1, 1], ["p", "p", "q", "q"])
    with pytest.raises(AuditError, match="0: 1, 1: 1"):
        require_labels(twice, 2)


def test_generated_volumes_are_asked_for() -> None:
    whole = cohort()
    for none in (None, whole.subset(np.arange(0))):
        with pytest.raises(AuditError, match="no generated volumes were given"):
            Evidence(whole, whole, none, (1.0,) * 3).require_generated()
    assert Evidence(whole, whole, whole, (1.0,) * 3).require_generated() is whole


def test_nameless_subjects_are_said() -> None:
    named, nameless = cohort(), cohort(subjects_named=False)
    assert Evidence(named, named, None, (1.0,) * 3).nameless == ""
    for sides in ((named, nameless), (nameless, named)):
        assert "whose volumes they are" in Evidence(*sides, None, (1.0,) * 3).nameless


def test_files_and_names_stay_with_their_volumes(tmp_path) -> None:
    files = tuple(tmp_path / f"{i}" for i in range(4))
    whole = cohort(files=files, subjects_named=False)
    part = whole.subset(np.array([3, 1]))
    assert part.files == (files[3], files[1]) and not part.subjects_named
    assert whole.subset(np.array([0])).subjects.tolist() == ["p0"]
    with pytest.raises(AuditError, match="4 volumes but 2 files"):
        cohort(files=files[:2])
