"""Sites: a planted scanner is found and named, permuted ones are not, and power is measured."""

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import sites
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.phantoms.volumes import CLASSES, OTHER_SCANNER, Recipe, Scanner, phantoms
from fastgan.audit.sites import differences
from fastgan.errors import AuditError, NotAsked

RECIPE = Recipe(size=8, per_subject=2)


def evidence(recipe=RECIPE, subjects=80, seed=0, generated=None):
    cohort = phantoms(recipe, subjects, seed=seed).first
    cohort = replace(cohort, columns={"scanner": cohort.columns["scanner"]})
    cut = len(cohort) * 3 // 4
    parts = cohort.subset(np.arange(cut)), cohort.subset(np.arange(cut, len(cohort)))
    return Evidence(*parts, generated, recipe.spacing, CLASSES, "ct")


def table(finding, title):
    return next(t for t in finding.tables if t.title.startswith(title))


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(differences, "CONTROL_RUNS", 10)
    monkeypatch.setattr(differences, "EFFECTS", (0.8,))


def test_a_second_scanner_is_found_and_named():
    other = replace(OTHER_SCANNER, noise=2.0)
    made = phantoms(replace(RECIPE, scanners=(other, other)), 30, seed=7, name="generated").first
    case = evidence(replace(RECIPE, scanners=(Scanner(), other)), generated=made)
    (finding,) = sites.judge(case, Options(permutations=499, planted=40))
    assert finding.key == "sites.scanner" and finding.p == 1 / 500
    assert finding.value > 0.75 and 0.4 < finding.floor < 0.6
    (settled,) = settle([finding], alpha=0.05)
    assert settled.verdict == "warn" and "80 subjects" in settled.sentence
    named = {row[0]: row for row in table(finding, "What differs").rows}
    _, d, low, high, site, p = named["noise (second difference)"]
    assert d > 1.0 and 0.5 < low < d < high and site == "S2" and p <= 0.01
    assert len(table(finding, "Tests").rows) == 3
    resemblance = {row[0]: row[2] for row in table(finding, "Which scanner").rows}
    assert resemblance["S2"] > 0.7


def test_equal_scanners_pass_and_the_power_table_rises():
    (finding,) = sites.judge(evidence(), Options(permutations=499, planted=40))
    (settled,) = settle([finding], alpha=0.05)
    assert settled.verdict == "pass" and "No evidence" in settled.sentence
    quiet = finding.controls[-1]
    assert quiet.expected == "quiet" and quiet.held and quiet.runs == 40
    (row,) = table(finding, "Share of planted").rows
    assert row[0] == 0.8 and row[3] >= 0.9 and row[3] >= row[1]


def test_scanner_that_goes_with_the_class_is_a_failure():
    case = evidence(replace(RECIPE, agreement=0.8, scanners=(Scanner(), OTHER_SCANNER)))
    (finding,) = sites.judge(case, Options(permutations=199, quick=True))
    assert finding.p <= 0.01 and finding.rejected.verdict == "fail"


def test_a_class_that_differs_is_no_site():
    # Lesions differ by class and scanners go with it; the scanner itself changes nothing.
    case = evidence(replace(RECIPE, agreement=0.8), seed=4)
    (finding,) = sites.judge(case, Options(permutations=199, quick=True))
    assert finding.p > 0.05
    unlabelled = replace(
        case,
        training=replace(case.training, labels=None),
        holdout=replace(case.holdout, labels=None),
    )
    (finding,) = sites.judge(unlabelled, Options(permutations=199, quick=True))
    assert finding.p <= 0.05


def test_manifest_numbers_are_statistics_and_three_sites_are_tested():
    case = evidence(subjects=60)
    rng = np.random.default_rng(0)

    def with_columns(cohort):
        people = np.unique(cohort.subjects, return_inverse=True)[1]
        site = np.array(["a", "b", "c"])[people % 3]
        thick = np.where(site == "b", 2.5, 1.25) + rng.choice([0, 0.25], len(site))
        return replace(cohort, columns={"site": site, "thickness": thick.astype(str)})

    case = replace(case, training=with_columns(case.training), holdout=with_columns(case.holdout))
    (finding,) = sites.judge(case, Options(permutations=199, quick=True))
    best = table(finding, "What differs").rows[0]
    assert best[0] == "manifest: thickness" and best[4] == "b" and finding.p <= 0.05
    assert finding.power == "" and finding.controls == ()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, None),
        ({"site": ["A"] * 40}, None),
        ({"site": ["A"] * 37 + ["B"] * 3}, "site: A 37, B 3"),
    ],
)
def test_cannot_tell_without_two_sites_of_ten_subjects(columns, reason):
    values = np.zeros((40, 4, 4, 4), dtype=np.float32)
    named = {k: np.array(v) for k, v in columns.items()}
    cohort = Cohort("training", values, np.array([f"p{i}" for i in range(40)]), None, named)
    empty = replace(cohort.subset(np.arange(0)), name="held-out")
    case = Evidence(cohort, empty, None, (1.0,) * 3)
    if reason is None:  # one site or none known: there is nothing to ask
        with pytest.raises(NotAsked, match="of one site and scanner, as far as the manifest says"):
            sites.judge(case, Options())
        return
    with pytest.raises(AuditError, match=f"at least 10 subjects each; got.*{reason}") as refused:
        sites.judge(case, Options())
    assert not isinstance(refused.value, NotAsked)
