"""Marks of a class inside the volume, and shortcuts that windows of each volume make."""

from dataclasses import replace

import numpy as np
import pytest

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.worlds import Setting, World
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.shortcuts import fixed_edges
from fastgan.audit.shortcuts.fixed_edges import judge_fixed_edges, largest_steps
from fastgan.audit.shortcuts.marks import find_marks, shell
from fastgan.audit.shortcuts.regions import judge_regions
from fastgan.audit.shortcuts.windows import common_window, under_one_window
from fastgan.audit.statistics.group_tests import Groups
from fastgan.errors import NotAsked

SITES = Setting("fields", 16, 120, "1", 2)
QUICK = Options(permutations=499, quick=True)


def verdict(finding) -> str:
    return settle([finding], alpha=0.05)[0].verdict


def test_steps_are_the_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 3, 4, 5))
    one = rng.random((2, 20)) < 0.5
    sizes, (axis, place) = largest_steps(values, one)
    best = []
    for member in one:
        most = 0.0
        for along in (1, 2, 3):
            a, b = (np.diff(values[m], axis=along) for m in (member, ~member))
            spread = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2)
            most = max(most, (np.abs(a.mean(axis=0) - b.mean(axis=0)) / spread).max())
        best.append(most)
    np.testing.assert_allclose(sizes, best, rtol=1e-3)
    steps = np.diff(values, axis=axis + 1)[(slice(None), *place)]
    a, b = steps[one[0]], steps[~one[0]]
    assert abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2) == pytest.approx(best[0])


def test_an_interior_mark_of_a_class_fails_where_sites_are_known() -> None:
    name = ("interior mark of a class, sites known", "30 % of the range")
    marked = judge_fixed_edges(FAULTS[name].make(World(SITES, 0)), QUICK)
    assert verdict(marked) == "fail" and "sharp edge at the same place" in marked.accepted.sentence
    clean = judge_fixed_edges(World(SITES, 0).evidence(), Options(planted=20))
    assert verdict(clean) == "pass" and clean.controls[-1].held
    assert clean.value is not None and marked.value is not None and clean.value < 2 < marked.value


def test_a_missed_control_of_edges_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_edges, "HEIGHTS", (0.0, 0.001))
    assert verdict(judge_fixed_edges(World(SITES, 0).evidence(), Options())) == "cannot tell"


def test_few_subjects_cannot_tell_and_say_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_edges, "BY_CHANCE", 0.5)
    few = World(replace(SITES, patients=66), 0).evidence()
    finding = judge_fixed_edges(few, QUICK)
    assert finding.accepted.verdict == "cannot tell" and "subjects are needed" in (
        finding.accepted.sentence
    )
    with pytest.raises(NotAsked, match="mask"):
        judge_fixed_edges(replace(few, modality="mask"), QUICK)


def test_marks_are_planted_in_thin_shells() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 16, 16, 16))
    groups = Groups(np.arange(40) % 2, np.arange(40), None, rng, 99 + 5)
    marks = find_marks(
        values,
        groups,
        shell((16, 16, 16)),
        permutations=99,
        alpha=0.05,
        rng=rng,
        plants=((1.0, 1.0),),
    )
    assert marks.side == 2 and len(marks.planted_p[1.0, 1.0]) == 5


def windowed(shortcut: float, seed: int = 0) -> Evidence:
    """Volumes whose own window follows a lesion in the middle; a corner may tell the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 2
    units = 100 + 5 * rng.standard_normal((120, 8, 8, 8))
    units[:, 3:5, 3:5, 3:5] += 100.0 + 100.0 * labels[:, None, None, None]
    units[labels == 1, :2, :2, :2] += shortcut
    windows = np.stack([units.min(axis=(1, 2, 3)), units.max(axis=(1, 2, 3))], axis=1)
    low, high = (windows[:, end, None, None, None] for end in (0, 1))
    values = (2 * (units - low) / (high - low) - 1).astype(np.float32)
    people = np.array([f"p{i}" for i in range(120)])
    cohort = Cohort("training", values, people, labels, windows=windows)
    return Evidence(cohort, cohort.subset(np.arange(0)), None, (1.0,) * 3)


def test_one_window_gives_the_units_back() -> None:
    case = windowed(0.0).training
    low, high = common_window(case) or (0.0, 0.0)
    same = under_one_window(case)
    assert same is not None and same.windows is None and low < high
    a, b = case.windows[0]
    units = a + (case.values[0] + 1) / 2 * (b - a)
    np.testing.assert_allclose(
        same.values[0], np.clip(2 * (units - low) / (high - low) - 1, -1, 1), atol=1e-4
    )
    assert under_one_window(replace(case, windows=None)) is None


def test_a_shortcut_made_by_windows_warns_and_another_fails() -> None:
    made = judge_regions(windowed(0.0), QUICK)
    assert made.p is not None and made.p <= 0.05 and made.rejected is not None
    assert made.rejected.verdict == "warn" and "set data.window" in made.rejected.sentence
    real = judge_regions(windowed(20.0), QUICK)
    assert real.rejected is not None and real.rejected.verdict == "fail"
    assert "under one window of all volumes, too" in real.rejected.sentence
