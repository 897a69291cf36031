"""Marks at fixed voxels: found where they are, nowhere else, and what masks make of them."""

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.phantoms.volumes import CLASSES, Recipe, phantoms
from fastgan.audit.shortcuts.marks import detached, find_marks, hit_table, shell, varying
from fastgan.audit.shortcuts.planted_marks import places_of
from fastgan.audit.shortcuts.watermarks import judge_marks, origin_column
from fastgan.audit.statistics.group_tests import Groups
from fastgan.errors import AuditError
from fastgan.measures.shape import soft_ellipsoids

FEW = Options(permutations=499, planted=40)
RECIPE = Recipe(size=12, per_subject=2, agreement=0.8)


def evidence(recipe=RECIPE, subjects=100, seed=0, without=()):
    made = phantoms(recipe, subjects, seed=seed).first
    columns = {k: v for k, v in made.columns.items() if k == "scanner" and k not in without}
    cohort = Cohort("training", made.values, made.subjects, made.labels, columns)
    return Evidence(cohort, cohort.subset(np.arange(0)), None, recipe.spacing, CLASSES, "ct")


def masks(n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    bodies = soft_ellipsoids(np.where(labels == 1, 300.0, 120.0), (12,) * 3, (1.0,) * 3, rng=rng)
    return (2 * bodies - 1).astype(np.float32), labels


def masks_evidence(values, labels):
    people = np.array([f"p{i}" for i in range(len(values))])
    cohort = Cohort("training", values, people, labels)
    return Evidence(cohort, cohort.subset(np.arange(0)), None, (1.0,) * 3, CLASSES, "mask")


def test_a_mark_is_found_in_its_place_alone():
    recipe = replace(RECIPE, watermark=2.0, mark_at=(7, 8, 6))
    made = phantoms(recipe, 100, seed=1)
    cohort, rng = made.first, np.random.default_rng(0)
    groups = Groups(cohort.columns["scanner"], cohort.subjects, cohort.labels, rng, 199)
    every = np.ones(made.mark.shape, dtype=bool)
    marks = find_marks(cohort.values, groups, every, permutations=199, alpha=0.05, rng=rng)
    assert marks.p == 1 / 200
    assert marks.hits[made.mark].mean() > 0.9 and not marks.hits[~made.mark].any()
    assert (marks.difference[marks.hits] > 0.1).all()
    table = hit_table(marks, recipe.spacing)
    assert table.rows[0][0] == "34.0, 38.0, 30.0" and table.rows[0][1] >= 25


def test_the_finding_names_the_mark_and_its_controls_hold():
    marked = judge_marks(evidence(replace(RECIPE, watermark=2.0)), FEW)
    plain = judge_marks(evidence(), FEW)
    for finding in (marked, plain):
        decisive = [c for c in finding.controls if c.decisive]
        assert [c.expected for c in decisive] == ["found", "quiet"]
        assert all(c.held for c in decisive)
    (settled,) = settle([marked], alpha=0.05)
    assert settled.verdict == "fail" and "shortcut to the label" in settled.sentence
    (settled,) = settle([plain], alpha=0.05)
    assert settled.verdict == "pass" and "1 sd" in settled.finding.power
    assert [f.png[:4] for f in marked.figures] == [b"\x89PNG"]
    assert len(marked.figures[0].png) < 60_000


def test_power_grows_with_height_and_a_fleeting_mark_is_harder():
    case = evidence(subjects=60).training
    rng = np.random.default_rng(0)
    groups = Groups(case.columns["scanner"], case.subjects, case.labels, rng, 199 + 60)
    every = np.ones(case.values.shape[1:], dtype=bool)
    plants = ((0.5, 1.0), (1.5, 1.0), (1.5, 0.7))
    planted = find_marks(
        case.values, groups, every, permutations=199, alpha=0.05, rng=rng, plants=plants
    ).planted_p
    low, high, unsure = ((planted[plant] <= 0.05).mean() for plant in plants)
    assert high > 0.9 > low + 0.2 and high > unsure + 0.2


def test_planting_by_arithmetic_is_planting_into_the_volumes():
    case = evidence(subjects=40).training
    every = np.ones(case.values.shape[1:], dtype=bool)
    rng = np.random.default_rng(0)
    groups = Groups(case.columns["scanner"], case.subjects, None, rng, 99 + 1)
    marks = find_marks(
        case.values, groups, every, permutations=99, alpha=0.05, rng=rng, plants=((1.0, 1.0),)
    )
    # The same by hand: the groups of the last row carry a mark at the first planted place.
    rng = np.random.default_rng(0)
    groups = Groups(case.columns["scanner"], case.subjects, None, rng, 99 + 1)
    place = places_of(every, 3, rng)[0]
    moved = case.values.copy().reshape(len(case), -1)
    moved[:, place] += moved[:, place].std(axis=0) * (groups.codes[-1] == 1)[:, None]
    again = find_marks(
        moved.reshape(case.values.shape),
        groups.rows(np.r_[100, 1:100]),
        every,
        permutations=99,
        alpha=0.05,
        rng=rng,
    )
    assert abs(again.p - marks.planted_p[1.0, 1.0][0]) <= 0.02


def test_without_scanners_the_label_is_looked_for_outside_the_middle():
    plain = evidence(replace(RECIPE, per_subject=1), subjects=120, without=("scanner",))
    finding = judge_marks(plain, Options(permutations=199, quick=True))
    assert finding.p > 0.05 and "outer eighth" in finding.accepted.sentence
    recipe = replace(RECIPE, per_subject=1, watermark=2.0, agreement=0.95, mark_at=(0, 0, 0))
    marked = evidence(recipe, subjects=120, without=("scanner",))
    finding = judge_marks(marked, Options(permutations=199, quick=True))
    assert finding.p == 1 / 200 and finding.rejected.verdict == "fail"


def test_letters_on_masks_are_apart_from_the_body():
    values, labels = masks()
    assert (detached(values) == -1).all()
    lettered = values.copy()
    lettered[:, 0, 0:3, 0:3] = 0.5
    expected = np.full(values.shape, -1.0)
    expected[:, 0, 0:3, 0:3] = 0.5
    np.testing.assert_array_equal(detached(lettered), expected)
    clean = judge_marks(masks_evidence(values, labels), FEW)
    assert clean.p == 1.0 and "none there varies" in clean.accepted.sentence
    values[labels == 1, 0, 0:2, 0:2] = 0.5
    found = judge_marks(masks_evidence(values, labels), FEW)
    assert found.p == 1 / 500 and found.rejected.verdict == "fail"
    assert "4 of 4 voxels" in found.rejected.sentence


def test_varying_leaves_out_what_few_volumes_have():
    values = np.zeros((100, 2, 2, 2))
    values[:9, 0, 0, 0] = 1.0
    values[:10, 1, 1, 1] = 1.0
    assert np.argwhere(varying(values)).tolist() == [[1, 1, 1]]


def test_shell_is_the_outer_eighth():
    assert shell((16, 16, 16)).sum() == 16**3 - 12**3
    assert shell((32, 32, 32)).sum() == 32**3 - 24**3


def test_cannot_tell_without_columns_labels_or_subjects():
    few = evidence(subjects=3)
    assert origin_column(few.training) is None
    with pytest.raises(AuditError, match="at least 10 training subjects of each class"):
        judge_marks(few, FEW)
    nothing = replace(few, training=replace(few.training, labels=None, columns={}))
    with pytest.raises(AuditError, match="no labels"):
        judge_marks(nothing, FEW)
