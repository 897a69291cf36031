"""Exchange: patients of different counts trade, and where nothing can move nothing passes."""

from dataclasses import replace

import numpy as np
import pytest

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.worlds import Setting, World
from fastgan.audit import sites
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Finding, settle
from fastgan.audit.rules import whole
from fastgan.audit.sites import differences
from fastgan.audit.statistics import Exchange
from fastgan.audit.statistics.trading import trading
from fastgan.errors import AuditError

TIED = Setting("fields", 16, 80, "1-3", 2, tied=True)
FEW = Options(permutations=499, planted=20)


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "CONTROL_RUNS", 10)
    monkeypatch.setattr(differences, "EFFECTS", (0.8,))


def verdict(finding: Finding) -> str:
    return settle([finding], alpha=0.05)[0].verdict


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def people(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_freedom_counts_who_can_trade_and_in_how_many_ways() -> None:
    # Three of one volume, two alike; two of two volumes, alike: only the first three can trade.
    subjects = people([1, 1, 1, 2, 2])
    free = Exchange(subjects).freedom(np.array([0, 0, 1, 1, 1, 1, 1]))
    assert (free.subjects, free.traders) == (5, 3)
    assert np.exp(free.log_arrangements) == pytest.approx(3)
    # Of 3! orders of (a, b, c) with the label at c: each keeps its label in a third.
    assert free.moved == pytest.approx(3 - 5 / 3)
    assert free.least_p(999) == pytest.approx(1 / 3) and free.least_p(1) == 0.5


def test_moved_is_what_permutations_move_on_average() -> None:
    draws = np.random.default_rng(3)
    subjects = people([1, 2] * 15)
    labels = draws.integers(3, size=30)[subjects]
    exchange = Exchange(subjects)
    moved = [len(np.unique(subjects[exchange.draw(labels, draws) != labels])) for _ in range(2000)]
    assert np.mean(moved) == pytest.approx(exchange.freedom(labels).moved, abs=0.2)


def test_whole_patients_trade_unless_counts_go_with_the_label() -> None:
    site = np.arange(40) % 2
    free = trading(site.repeat(2), people([2] * 40), None, rng(), "the site")
    assert not free.one_each and len(free.volumes) == 80 and free.note == ""
    counts = (1 + 3 * site).tolist()
    tied = trading(site.repeat(counts), people(counts), None, rng(), "the site")
    assert tied.one_each and (np.diff(people(counts)[tied.volumes]) == 1).all()
    assert tied.freedom.traders == 40 and "40 of 40 subjects can trade" in tied.said(999)
    assert "one volume of each is drawn" in tied.said(999) and "0.001" in tied.said(999)


def test_drawn_volumes_are_any_of_a_patients() -> None:
    counts = [1, 4] * 20
    site = np.tile([0, 1], 20).repeat(counts)
    firsts = np.cumsum(counts) - counts
    places = [
        trading(site, people(counts), None, np.random.default_rng(s), "the site").volumes - firsts
        for s in range(30)
    ]
    assert {int(p) for place in places for p in place[1::2]} == {0, 1, 2, 3}


def test_all_counts_different_still_trade() -> None:
    counts = list(range(1, 31))
    labels = np.random.default_rng(1).permutation(30).repeat(counts) % 2
    free = trading(labels, people(counts), None, rng(), "the label")
    assert free.one_each and free.freedom.traders == 30


@pytest.mark.parametrize("short", [0, 1])
def test_least_traders_is_a_rule(short: int) -> None:
    count = whole("exchange.least_traders") - short
    labels = np.arange(count) % 2
    if not short:
        assert trading(labels, np.arange(count), None, rng(), "it").freedom.traders == count
        return
    with pytest.raises(AuditError, match=f"only {count} of {count} subjects could trade it"):
        trading(labels, np.arange(count), None, rng(), "it")


@pytest.mark.parametrize(("one", "other", "enough"), [(1, 398, False), (1, 399, True)])
def test_least_arrangements_is_a_rule(one: int, other: int, enough: bool) -> None:
    labels = np.r_[np.ones(one), np.zeros(other)]
    subjects = np.arange(len(labels))
    if enough:
        assert trading(labels, subjects, None, rng(), "it").freedom.least_p(9999) == pytest.approx(
            1 / 400
        )
    else:
        with pytest.raises(AuditError, match="could trade"):
            trading(labels, subjects, None, rng(), "it")


def test_a_site_that_is_the_class_cannot_be_judged() -> None:
    labels = np.arange(60) % 2
    with pytest.raises(AuditError, match=r"others of the same class.*add subjects that differ"):
        trading(labels, np.arange(60), labels, rng(), "the site")


def test_gain_is_found_where_counts_go_with_the_site() -> None:
    evidence = FAULTS["gain at one site", "+20 %"].make(World(TIED, 0))
    (finding,) = sites.judge(evidence, FEW)
    assert finding.p == 1 / 500 and finding.value is not None and finding.value > 0.95
    assert verdict(finding) == "warn" and "80 of 80 subjects can trade" in finding.methods


def test_clean_sites_pass_where_counts_go_with_the_site() -> None:
    (finding,) = sites.judge(World(TIED, 0).evidence(), FEW)
    assert finding.p is not None and finding.p > 0.05
    assert verdict(finding) == "pass" and "one volume of each drawn" in finding.accepted.sentence
    assert [c.held for c in finding.controls] == [True, True]
    assert "at one site of 80 subjects" in finding.controls[0].name


def test_a_missed_control_of_sites_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "_planted", lambda *a: [1.0] * 10)
    (finding,) = sites.judge(World(TIED, 0).evidence(), FEW)
    assert verdict(finding) == "cannot tell"


def with_sites(names: np.ndarray, labels: np.ndarray | None = None) -> Evidence:
    values = np.random.default_rng(0).standard_normal((len(names), 8, 8, 8)).clip(-1, 1)
    who = np.array([f"p{i}" for i in range(len(names))])
    cohort = Cohort("training", values.astype(np.float32), who, labels, {"site": names})
    return Evidence(cohort, replace(cohort.subset(np.arange(0)), name="held-out"), None, (1.0,) * 3)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (np.arange(60).astype(str), "site: 0 1, 1 1.* and 54 more"),
        (np.array(["a"] * 59 + ["b"]), "site: a 59, b 1"),
        ((np.arange(60) % 15).astype(str), "0 4.* and 9 more"),
        (np.array([f"seen on day {i}, by no one" for i in range(60)]), "and 54 more"),
        (np.array(["a"] * 60), "all volumes are of one site"),
    ],
    ids=["each another", "one patient", "more sites than a fifth", "free text", "constant"],
)
def test_sites_that_cannot_be_compared_are_named(names: np.ndarray, reason: str) -> None:
    with pytest.raises(AuditError, match=reason):
        sites.judge(with_sites(names), FEW)


def test_a_site_of_one_patient_is_left_out_and_named() -> None:
    names = np.array(["a", "b"] * 30 + ["lonely"])
    (finding,) = sites.judge(with_sites(names), Options(permutations=99, quick=True))
    assert "Too few subjects to be judged: lonely 1" in finding.accepted.sentence
    assert finding.n_subjects == 60


def test_sites_that_are_the_classes_cannot_tell() -> None:
    labels = np.arange(60) % 2
    with pytest.raises(AuditError, match="only 0 of 60 subjects could trade the site"):
        sites.judge(with_sites(np.array(["a", "b"] * 30), labels), FEW)
