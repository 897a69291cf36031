"""Units of work: done once, the same after a kill, refused where they are of something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.errors import AuditError, CorruptFile, NumericsError, StateError
from fastgan.train.lock import hold
from fastgan.utility.conclude import conclude, record
from fastgan.utility.gather import gather, missing_folds
from fastgan.utility.generators import Generated
from fastgan.utility.report import page, text
from fastgan.utility.store import open_store
from fastgan.utility.work import Task, names_of_results, run_fold
from tests.utility.studies import cohort, copies, finished, study

PATIENTS = cohort(48, np.random.default_rng(0), effect=2.0)


def numbers(task: Task) -> dict[str, Any]:
    return record(task, conclude(task))


def test_a_study_interrupted_anywhere_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = study(trials={"real": [0.05, 1.0], "oversampled": [0.5, 1.0], "gan": [0.25, 0.5]})
    whole = numbers(finished(settings, PATIENTS, tmp_path / "whole"))

    class Killed(BaseException):
        pass

    made = 0
    store = open_store(tmp_path / "cut", settings, PATIENTS, None)
    task = Task.of(settings, PATIENTS, None, store, copies)
    write = store.write

    def dying(fold: int, name: str, content: Any) -> None:
        nonlocal made
        made += 1
        if made % 5 == 0:  # the work is done, and lost before it is written
            raise Killed
        write(fold, name, content)

    monkeypatch.setattr(store, "write", dying)
    kills = 0
    while missing_folds(task):
        try:
            for fold in task.folds:
                run_fold(task, fold)
        except Killed:
            kills += 1
    assert kills > 5
    assert numbers(task) == whole


def test_finished_units_are_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def counting(*given: Any) -> Generated:
        calls.append(given[-1])
        made: Generated = copies(*given)
        return made

    task = finished(study(), PATIENTS, tmp_path / "s", counting)
    assert calls == [0, 2, 4]  # one trial, so nothing is tuned and no inner generator is trained
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
    again = finished(study(), PATIENTS, tmp_path / "s", counting)
    assert len(calls) == 3 and {p: p.stat().st_mtime_ns for p in files} == files
    assert numbers(again) == numbers(task)


def test_a_generator_never_sees_whom_it_is_tested_on(tmp_path: Path) -> None:
    asked: list[tuple[set[str], frozenset[str]]] = []

    def watched(study: Any, cohort: Any, at: Any, unseen: Any, folder: Any, number: int) -> Any:
        asked.append((set(cohort.subjects[at].tolist()), unseen))
        return copies(study, cohort, at, unseen, folder, number)

    settings = study(
        trials={"real": [0.05, 1.0], "oversampled": [0.5, 1.0], "gan": [0.25, 0.5]},
        inner={"splits": 2},
    )
    outside = cohort(12, np.random.default_rng(5))
    outside = replace(outside, subjects=np.array([f"x{i}" for i in range(12)]))
    store = open_store(tmp_path / "s", settings, PATIENTS, outside)
    task = Task.of(settings, PATIENTS, outside, store, watched)
    for fold in task.folds:
        run_fold(task, fold)
    everybody = set(PATIENTS.subjects.tolist()) | set(outside.subjects.tolist())
    assert len(asked) == 3 * 3
    for number, (seen, unseen) in enumerate(asked):
        tested = set(PATIENTS.subjects[task.folds[number // 3].test].tolist())
        assert not seen & tested and not seen & unseen
        assert seen | unseen == everybody and tested <= unseen
    assert set(conclude(task).external) == {"gan"}


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    finished(study(), PATIENTS, tmp_path / "s")
    with pytest.raises(StateError, match="a study of other settings: seeds"):
        open_store(tmp_path / "s", study(seeds=3), PATIENTS, None)
    with pytest.raises(StateError, match="a study of other data"):
        open_store(tmp_path / "s", study(), replace(PATIENTS, fingerprint="1" * 64), None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("mine")
    with pytest.raises(StateError, match="is not empty and holds no study"):
        open_store(tmp_path / "other", study(), PATIENTS, None)
    # What is only said of results may change: nothing is trained anew for it.
    open_store(tmp_path / "s", study(margin=0.1, groups=[{"column": "site"}]), PATIENTS, None)


@pytest.mark.parametrize(
    ("damage", "error", "told"),
    [
        (lambda p: p.write_text("{"), CorruptFile, "not JSON"),
        (lambda p: p.write_text("[1]"), CorruptFile, "not a unit"),
        (lambda p: p.write_text(json.dumps({"key": "x"})), StateError, "of other settings or data"),
    ],
)
def test_a_unit_that_is_not_its_own_is_refused(
    tmp_path: Path, damage: Callable[[Path], Any], error: type[Exception], told: str
) -> None:
    task = finished(study(), PATIENTS, tmp_path / "s")
    damage(tmp_path / "s" / "fold-0" / "real-seed0.json")
    with pytest.raises(error, match=told):
        gather(task)


def test_an_unfinished_fold_is_named(tmp_path: Path) -> None:
    task = finished(study(), PATIENTS, tmp_path / "s")
    (tmp_path / "s" / "fold-1" / "gan-seed1.json").unlink()
    with pytest.raises(StateError, match="fold 1 is not finished: gan-seed1"):
        conclude(task)
    assert missing_folds(task) == [1]


def test_a_fold_has_one_worker(tmp_path: Path) -> None:
    settings = study()
    store = open_store(tmp_path / "s", settings, PATIENTS, None)
    task = Task.of(settings, PATIENTS, None, store, copies)
    store.fold(0).mkdir()
    with hold(store.fold(0)), pytest.raises(StateError, match="in use"):
        run_fold(task, task.folds[0])


def diverging(*given: Any) -> Generated:
    raise NumericsError("loss nan in step 3")


def test_an_arm_that_diverges_is_reported_and_counts_as_chance(tmp_path: Path) -> None:
    task = finished(study(), PATIENTS, tmp_path / "s", diverging)
    found = conclude(task)
    gan = found.scored["gan"]
    assert len(gan.diverged) == 6 and "its generator diverged" in gan.diverged[0]
    np.testing.assert_array_equal(gan.metrics["AUC"], 0.5)
    assert found.scored["real"].diverged == ()
    assert "6 of its trainings diverged" in found.judgements[0].sentence
    assert "Trainings that diverged" in page(task, found) and "diverged" in text(task, found)
    assert record(task, found)["arms"]["gan"]["diverged"] == list(gan.diverged)


def test_a_classifier_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    def blank(study: Any, cohort: Any, at: Any, *rest: Any) -> Generated:
        return Generated(np.zeros_like(cohort.values[at]), cohort.positive[at])

    found = conclude(finished(study(), PATIENTS, tmp_path / "s", blank))
    assert found.scored["gan"].diverged == ()
    # Blank volumes teach nothing of their own: trained on them alone it is chance.
    assert found.scored["tstr"].metrics["AUC"].mean() == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (Generated(np.zeros((4, 1, 5, 4, 4), np.float32), np.arange(4) < 2), "have .1, 5, 4, 4. v"),
        (Generated(np.zeros((4, 1, 4, 4, 4), np.float32), np.zeros(4, bool)), "0 of 4 are positi"),
    ],
)
def test_generated_volumes_that_do_not_fit_are_refused(
    tmp_path: Path, made: Generated, told: str
) -> None:
    with pytest.raises(AuditError, match=told):
        finished(study(), PATIENTS, tmp_path / "s", lambda *given: made)


def test_names_of_results_are_what_is_counted() -> None:
    names = names_of_results(study())
    assert len(names) == len(set(names)) == 2 * 3 + 2 + 2
    assert {"tstr-seed0", "oversampled-of0.5-seed1"} < set(names)


def test_groups_and_coverage_of_a_study(tmp_path: Path) -> None:
    settings = study(groups=[{"column": "site"}, {"column": "age", "cuts": [30.0, 45.0]}])
    many = cohort(240, np.random.default_rng(3), effect=1.0)
    found = conclude(finished(settings, many, tmp_path / "s"))
    groups = {(g.column, g.name): g for g in found.groups["gan"].groups}
    assert set(groups) == {
        ("site", "A"),
        ("site", "B"),
        ("age", "below 30"),
        ("age", "30 to 45"),
        ("age", "45 and more"),
    }
    assert not any(g.standing == "harmed" for g in groups.values())
    assert groups[("site", "A")].positive + groups[("site", "A")].negative == 120
    # Copies of patients cover as patients do: whoever is near one is near its copy.
    whole = next(row for row in found.coverage if row[1] == "all")
    assert whole[2] == 240 and whole[4] >= whole[3] - 0.1 and whole[3] > 0.5


def test_the_share_of_the_corrected_t_is_that_of_the_patients(tmp_path: Path) -> None:
    def task(settings: Any) -> Task:
        return Task.of(
            settings, PATIENTS, None, open_store(tmp_path, settings, PATIENTS, None), copies
        )

    settings = study(folds=4)
    assert task(settings).share == pytest.approx(1 / 3)
    thin = study(folds=4, thin=0.2)
    (tmp_path / "study.json").unlink()
    # Of 12 ill and 24 well patients of a training part, 6 ill at most are a fifth.
    assert task(thin).share == pytest.approx(12 / 30)
