"""Each limit of memorization, on either side, through `judge` and `settle`; and bad inputs."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from fastgan.audit import controls, memorization
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Settled, settle
from fastgan.audit.likeness.outliers import LEAST_NULL, CopyTest
from fastgan.audit.memorization import figures
from fastgan.audit.memorization.planted_copies import BENT, DEFORMED
from fastgan.audit.memorization.power import CopyPower
from fastgan.audit.memorization.prevalence import Sides
from fastgan.audit.memorization.search import Searched, searched
from fastgan.audit.statistics import pareto
from fastgan.audit.statistics.pareto import ParetoTail
from fastgan.errors import AuditError

# The package's attribute of this name is the function.
judge = import_module("fastgan.audit.memorization.judge")
QUICK = Options(quick=True, permutations=199)
# Controls are replaced in these tests, so an audit with them costs what a quick one does.
WHOLE = Options(permutations=199)


@pytest.fixture(scope="module")
def data(clean: Evidence) -> Searched:
    return searched(clean, QUICK)


@pytest.fixture
def settled(clean: Evidence, data: Searched, monkeypatch: pytest.MonkeyPatch) -> dict[str, Settled]:
    """Question -> finding as settled, of clean data whose controls all hold."""
    monkeypatch.setattr(figures, "canvas", lambda *_, **__: None)
    monkeypatch.setattr(judge, "searched", lambda *_: data)
    held = controls.found("planted", 300, 300)
    every = {kind: np.ones(300, bool) for kind in (*DEFORMED, BENT)}
    monkeypatch.setattr(judge, "prevalence_controls", lambda *_: ((held,), (1.0, 1.0)))
    for name in ("copy_power", "deformed_power"):
        monkeypatch.setattr(judge, name, lambda *_, **__: CopyPower({}, every))
    monkeypatch.setattr(judge, "quiet_copies", lambda *_: controls.quiet("q", 0, 1, at_most=0.0))

    class Asked(dict):
        def __missing__(self, key: str) -> Settled:
            found = memorization.judge(clean, WHOLE)
            return {s.finding.key.split(".")[1]: s for s in settle(found, alpha=0.05)}[key]

    return Asked()


@pytest.mark.parametrize(
    ("p", "high", "verdict"),
    [(0.5, 0.75, "pass"), (0.5, 0.76, "cannot tell"), (0.005, 0.6, "warn"), (0.005, 0.61, "fail")],
)
def test_how_wide_an_interval_may_be_and_how_little_copying_is_a_warning(
    settled, monkeypatch, p, high, verdict
):
    monkeypatch.setattr(Sides, "p", lambda *_: p)
    monkeypatch.setattr(Sides, "interval", lambda *_: (0.4, high))
    assert settled["prevalence"].verdict == verdict


@pytest.mark.parametrize(("seen", "by"), [(0.95, 1), (0.94, 0)])
def test_only_a_search_that_sees_copies_bounds_them(settled, data, monkeypatch, seen, by):
    held = controls.found("planted", 300, 300)
    monkeypatch.setattr(judge, "prevalence_controls", lambda *_: ((held,), (1.0, seen)))
    near = [(np.arange(60), np.ones(60, bool)), (np.arange(60), np.arange(60) % 3 > 0)]
    monkeypatch.setattr(judge, "nearest_by_search", lambda *_: near)
    monkeypatch.setattr(Sides, "p", lambda *_: 0.5)
    monkeypatch.setattr(Sides, "patients", lambda _, who, trained: 60.0 - trained.mean())
    sides = Sides.draw(data.n_training, data.n_holdout, np.random.default_rng(0), 1)
    assert settled["prevalence"].finding.value == sides.share(near[by][1])


@pytest.mark.parametrize(("hits", "verdict"), [(254, "pass"), (253, "cannot tell")])
@pytest.mark.parametrize("kind", DEFORMED)
def test_each_deformed_copy_must_surely_be_found(settled, monkeypatch, kind, hits, verdict):
    found = {k: np.arange(300) < (hits if k == kind else 300) for k in DEFORMED}
    found[BENT] = np.zeros(300, bool)
    monkeypatch.setattr(judge, "deformed_power", lambda *_: CopyPower({}, found))
    asked = settled["copies_deformed"]
    assert asked.verdict == verdict
    if verdict == "pass":
        # What was not found is not claimed, and said.
        assert f"A single copy {BENT} was found in 0% of 300 runs" in asked.sentence
        assert "bent" not in asked.sentence.split("A single copy")[0]


def test_a_test_that_alarms_at_held_out_patients_cannot_tell(settled, monkeypatch):
    monkeypatch.setattr(judge, "quiet_copies", lambda *_: controls.quiet("q", 1, 1, at_most=0.0))
    assert settled["copies"].verdict == settled["copies_deformed"].verdict == "cannot tell"


def test_how_few_volumes_say_what_chance_is():
    values = np.random.default_rng(0).exponential(size=LEAST_NULL)
    assert LEAST_NULL == 120 and CopyTest.fit([values]).p([np.array([1e3])])[0] < 1e-3
    with pytest.raises(AuditError, match=r"at least 120 .* got 119"):
        CopyTest.fit([values[1:]])


def test_a_few_near_ties_make_no_tail_beyond_which_nothing_lies(monkeypatch):
    # Twelve excesses, each twice the one before: most lie near the threshold, the largest at 0.07.
    bulk = np.linspace(0.0, 0.05, 108)
    excess = 0.05 + 2.0 ** np.arange(12) * 1e-5
    null = np.concatenate([bulk, excess])
    far = np.array([1.0])
    known = ParetoTail.fit(null, 0.9)
    monkeypatch.setattr(pareto, "SHAPE_SPREAD", 1e9)
    alone = ParetoTail.fit(null, 0.9)
    assert alone.shape > 2 and alone.p(far)[0] > 1e-3
    assert known.shape < 0.2 and known.p(far)[0] < 1e-6


def given(evidence: Evidence, **cohorts: Cohort) -> dict[str, Settled]:
    found = memorization.judge(replace(evidence, **cohorts), QUICK)
    return {s.finding.key.split(".")[1]: s for s in settle(found, alpha=0.05)}


def test_one_volume_sixty_times_is_judged_or_refused_and_never_passes(clean, monkeypatch):
    monkeypatch.setattr(figures, "canvas", lambda *_, **__: None)
    one = np.repeat(clean.generated.values[:1], 60, axis=0)
    found = given(clean, generated=replace(clean.generated, values=one))
    assert {s.verdict for s in found.values()} == {"cannot tell"}


def test_patients_of_very_different_counts_are_judged(clean, monkeypatch):
    monkeypatch.setattr(figures, "canvas", lambda *_, **__: None)
    # 1, 2, 3, ... volumes: 17 patients in training, 12 held out.
    of = np.repeat(np.arange(40), np.arange(1, 41))
    training = replace(clean.training, subjects=np.array([f"t{i}" for i in of[:160]]))
    holdout = replace(clean.holdout, subjects=np.array([f"h{i}" for i in of[:80]]))
    found = given(clean, training=training, holdout=holdout)
    assert found["copies"].finding.p is not None
    assert "at least 20 subjects on both sides" in found["prevalence"].sentence


def test_one_patient_is_refused_with_what_is_missing(clean):
    training = replace(clean.training, subjects=np.full(160, "only"))
    with pytest.raises(AuditError, match="10 neighbours of other subjects needed, 0 volumes left"):
        given(clean, training=training)
