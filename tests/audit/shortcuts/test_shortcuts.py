"""Shortcuts planted one by one: regions, columns, amplification, a class written elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import shortcuts
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.phantoms.volumes import CLASSES, Lesion, Recipe, phantoms
from fastgan.audit.shortcuts import amplification, attributes, regions
from fastgan.audit.shortcuts.amplification import contrast_rows, judge_amplification
from fastgan.audit.shortcuts.attributes import judge_columns, judge_explained, levels_of
from fastgan.audit.shortcuts.regions import judge_regions
from fastgan.audit.shortcuts.swap import change_outside, judge_swap
from fastgan.audit.statistics.group_tests import Groups
from fastgan.errors import AuditError, NotAsked
from fastgan.measures.shape import soft_ellipsoids

QUICK = Options(permutations=199, quick=True)
FULL = Options(permutations=499, planted=40)
# Small lesions: they reach neither border nor corners.
RECIPE = Recipe(size=8, lesions=(Lesion(radius=6.0), Lesion(radius=8.0)))
SHAPE, UNIT = (10,) * 3, (1.0,) * 3


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    for module in (amplification, attributes, regions):
        monkeypatch.setattr(module, "CONTROL_RUNS", 20)


def evidence(recipe=RECIPE, subjects=100, seed=0, generated=None):
    training = phantoms(recipe, subjects, seed=seed).first
    holdout = phantoms(recipe, subjects, seed=seed + 100, name="held-out").first
    return Evidence(training, holdout, generated, recipe.spacing, CLASSES, "ct")


def bodies(labels, seed=0, mark=False):
    """Masks of 10^3, larger for class 1; perhaps with a mark in the corner for class 1."""
    rng = np.random.default_rng(seed)
    volume = np.where(labels == 1, 60.0, 30.0) * np.exp(0.2 * rng.standard_normal(len(labels)))
    values = (2 * soft_ellipsoids(volume, SHAPE, UNIT, rng=rng) - 1).astype(np.float32)
    if mark:
        values[labels == 1, :3, :3, :3] = 1.0
    return values


def mask_evidence(n=100, **changes):
    labels = np.arange(n) % 2
    people = np.array([f"p{i}" for i in range(n)])
    training = Cohort("training", bodies(labels), people, labels)
    holdout = Cohort("held-out", bodies(labels, seed=1), np.char.add("h", people), labels)
    return replace(Evidence(training, holdout, None, UNIT, CLASSES, "mask"), **changes)


def verdict(finding):
    return settle([finding], alpha=0.05)[0].verdict


def test_clean_regions_pass_with_controls_that_hold():
    finding = judge_regions(evidence(subjects=200), FULL)
    assert finding.p > 0.05
    assert [c.expected for c in finding.controls] == ["found", "found", "quiet"]
    assert finding.controls[0].rate >= 0.8 and finding.controls[-1].held
    assert verdict(finding) == "pass" and "in a corner brighter" in finding.power


def test_a_corner_that_tells_the_label_fails():
    case = evidence(replace(RECIPE, watermark=3.0, agreement=0.95, mark_at=(0, 0, 0)))
    finding = judge_regions(case, QUICK)
    assert finding.p <= 0.01 and finding.rejected.verdict == "fail"
    assert "corners" in finding.rejected.sentence and finding.interval[0] > 0.5


def test_of_masks_the_size_is_no_shortcut_of_the_background():
    # The larger class reaches further out; given the size, nothing is left.
    finding = judge_regions(mask_evidence(200), QUICK)
    assert finding.p > 0.05 and "beyond what their size tells" in finding.accepted.sentence


def test_columns_need_both_utility_and_detectability():
    case = evidence(replace(RECIPE, agreement=0.85), subjects=120)
    values = case.training.values.copy()
    seen = case.training.columns["scanner"] == "S2"
    rng = np.random.default_rng(0)
    columns = {
        "arm": np.where(
            rng.random(120) < 0.2 + 0.6 * case.training.labels, "a", "b"
        ),  # label alone
        "dose": np.where(rng.random(120) < 0.5, "high", "low"),  # changes voxels, not the label
        "kernel": np.where(seen ^ (rng.random(120) < 0.1), "sharp", "soft"),  # does both
    }
    values += 0.15 * (columns["dose"] == "high")[:, None, None, None]
    values[:, :, ::2] += 0.15 * (columns["kernel"] == "sharp")[:, None, None, None]
    training = replace(case.training, values=values.astype(np.float32), columns=columns)
    finding = judge_columns(replace(case, training=training), Options(permutations=199, planted=0))
    rows = {row[0]: row for row in finding.tables[0].rows}
    assert rows["dose"][3] > 0.05 and rows["dose"][5] <= 0.01
    assert rows["kernel"][3] <= 0.01 and rows["kernel"][5] <= 0.01
    assert finding.p <= 0.05 and "kernel" in finding.rejected.sentence
    assert rows["kernel"][6] == max(row[6] for row in rows.values())


def test_columns_pass_with_controls():
    finding = judge_columns(evidence(subjects=160), FULL)
    assert finding.p > 0.05 and {c.held for c in finding.controls} == {True}
    assert verdict(finding) == "pass"


def test_levels_of_numbers_are_halves_and_rare_levels_are_left_out():
    people = np.array([f"p{i}" for i in range(40)])
    numbers = levels_of(np.linspace(1, 2, 40).astype(str), people)
    assert sorted(np.unique(numbers)) == ["<= 1.5", "> 1.5"]
    text = np.array(["a"] * 18 + ["b"] * 18 + ["c"] * 4)
    assert (levels_of(text, people)[-4:] == "").all()
    assert levels_of(np.array(["a"] * 35 + ["b"] * 5), people) is None
    # A value that is missing leaves the others numbers.
    ages = np.linspace(1, 2, 40).astype(str).astype(object)
    ages[:3] = ""
    halves = levels_of(ages.astype(str), people)
    assert (halves[:3] == "").all() and len(set(halves[3:])) == 2


def test_size_is_stated_and_not_failed():
    finding = judge_explained(mask_evidence(), QUICK)
    assert finding.p is None and finding.accepted.verdict == "warn"
    assert "olume" in finding.accepted.sentence and finding.value > 0.9
    assert finding.interval[0] < finding.value <= finding.interval[1]


def test_amplified_corner_fails_and_a_fair_copy_passes():
    weak = replace(RECIPE, watermark=1.0, agreement=0.8, mark_at=(0, 0, 0))
    strong = replace(weak, watermark=4.0, agreement=1.0)
    for recipe, found in ((strong, True), (weak, False)):
        made = phantoms(recipe, 150, seed=50, name="generated").first
        finding = judge_amplification(evidence(weak, 150, generated=made), FULL)
        assert (finding.p <= 0.05) == found
        assert finding.controls[-1].held
    assert verdict(finding) == "pass"


def test_amplified_size_of_masks_is_a_warning():
    labels = np.arange(100) % 2
    rng = np.random.default_rng(0)
    volume = np.where(labels == 1, 80.0, 20.0)
    apart = (2 * soft_ellipsoids(volume, SHAPE, UNIT, rng=rng) - 1).astype(np.float32)
    case = mask_evidence()
    # Held-out sizes overlap, generated ones do not.
    spread = np.where(labels == 1, 60.0, 40.0) * np.exp(0.4 * rng.standard_normal(100))
    held = (2 * soft_ellipsoids(spread, SHAPE, UNIT, rng=rng) - 1).astype(np.float32)
    generated = Cohort("generated", apart, np.array([f"g{i}" for i in range(100)]), labels)
    case = replace(case, holdout=replace(case.holdout, values=held), generated=generated)
    finding = judge_amplification(case, QUICK)
    assert finding.p <= 0.01 and finding.rejected.verdict == "warn" and finding.value > 0.1


def test_contrast_is_delongs():
    rng = np.random.default_rng(0)
    labels, side = np.arange(60) % 2, np.arange(60) // 30
    score = rng.standard_normal(60) + labels * (1 + side)
    rows = Groups(side, np.arange(60), labels, rng, 5)
    areas, errors = [], []
    for s in (0, 1):
        high, low = (score[(side == s) & (labels == y)] for y in (1, 0))
        wins = (high[:, None] > low).astype(float)
        areas.append(wins.mean())
        errors.append(
            wins.mean(axis=1).var(ddof=1) / len(high) + wins.mean(axis=0).var(ddof=1) / len(low)
        )
    expected = (areas[1] - areas[0]) / np.sqrt(sum(errors))
    assert contrast_rows(rows, score[None], labels)[0, 0] == pytest.approx(expected, rel=1e-4)


def swapped(kind):
    def draw(numbers, label):
        labels = np.full(len(numbers), label)
        if kind == "ignored":
            labels[:] = 0
        values = bodies(labels, seed=5, mark=kind == "marked")
        if kind == "ignored":
            rng = np.random.default_rng(label)
            values = values + 1e-3 * rng.standard_normal(values.shape).astype(np.float32)
        return values

    return draw


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("lesion", "pass", "of 64 latents look more like malignant"),
        ("marked", "fail", "written into the background"),
        ("ignored", "fail", "changes nothing"),
    ],
)
def test_swapping_the_class(kind, expected, words):
    finding = judge_swap(mask_evidence(draw=swapped(kind)), FULL)
    assert verdict(finding) == expected and words in finding.accepted.sentence
    if kind == "lesion":
        assert [c.held for c in finding.controls] == [True, True]
        assert finding.value < 0.001


def test_change_outside_is_a_share_of_the_square():
    first = np.full((1, 10, 10, 10), -1.0)
    first[0, 5, 5, 5] = 1.0
    second = first.copy()
    second[0, 5, 5, 6] = 1.0
    assert change_outside(first, second)[0] == 0.0
    second[0, 0, 0, 0] = 0.0
    assert change_outside(first, second)[0] == pytest.approx(1.0 / 5.0)
    assert np.isnan(change_outside(first, first)[0])


def test_judge_answers_what_it_can_and_says_why_not():
    findings = {f.key: f for f in shortcuts.judge(mask_evidence(60), QUICK)}
    assert len(findings) == 7
    assert "Not asked" in findings["shortcuts.marks.class"].accepted.sentence
    assert "no generated volumes" in findings["shortcuts.amplification"].accepted.sentence
    for key, reason in (("swap", "no generator"), ("columns", "no manifest column has two")):
        outcome = findings[f"shortcuts.{key}"].accepted
        assert outcome.verdict == "not asked" and reason in outcome.sentence
    assert findings["shortcuts.marks"].p == 1.0
    three = mask_evidence(60)
    three = replace(three, training=three.training.subset(np.arange(3)))
    with pytest.raises(AuditError, match="at least 20 training subjects of each class"):
        shortcuts.judge(three, QUICK)


def test_without_labels_nothing_is_asked_but_marks_of_scanners():
    case = mask_evidence(60)
    bare = replace(case, training=replace(case.training, labels=None, columns={}))
    unlabelled = replace(case.training, name="generated", labels=None)
    with pytest.raises(NotAsked, match=r"^the training volumes have no labels$"):
        shortcuts.judge(replace(bare, generated=unlabelled), QUICK)
    scanners = np.where(np.arange(60) % 2, "a", "b")
    known = replace(bare, training=replace(bare.training, columns={"scanner": scanners}))
    found = {f.key: f.accepted.verdict for f in shortcuts.judge(known, QUICK)}
    assert found.pop("shortcuts.marks") == "pass" and set(found.values()) == {"not asked"}


def test_volumes_too_small_for_regions_are_named():
    case = mask_evidence(60)
    small = replace(case.training, values=case.training.values[:, :6, :6, :6])
    with pytest.raises(AuditError, match="at least 8 voxels a side, got"):
        judge_regions(replace(case, training=small), QUICK)
