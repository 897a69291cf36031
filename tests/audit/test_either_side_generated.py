"""Limits of what is said of generated volumes: a verdict on either side of each.

Every case is made so that its measured value is known; it goes through the judge and is settled.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit import sites
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.quality.diversity import judge_diversity
from fastgan.audit.quality.kinds import judge_kinds
from fastgan.audit.quality.reach import judge_coverage
from fastgan.audit.quality.repetition import judge_repetition
from fastgan.audit.quality.spectrum import judge_spectrum
from fastgan.audit.shortcuts.watermarks import judge_marks
from tests.audit.judged import CLASSES, UNIT, cohort, evidence, noise, unplanted, verdict_of

# --- quality


@pytest.mark.parametrize(("trained", "verdict"), [(106, "pass"), (107, "cannot tell")])
def test_distinct_volumes_that_are_enough(trained, verdict) -> None:
    """No twins among 40 volumes are at least 213 distinct ones: twice 106."""
    case = evidence(noise(trained, 0), noise(10, 1), noise(40, 2))
    assert unplanted(judge_repetition(case, Options(quick=True))) == verdict


@pytest.mark.parametrize(("trained", "verdict"), [(80, "fail"), (60, "warn")])
def test_distinct_volumes_that_are_few(trained, verdict) -> None:
    """200 volumes, four of each, repeat as 66 distinct ones do, at most about 75."""
    made = np.repeat(noise(50, 2), 4, axis=0)
    case = evidence(noise(trained, 0), noise(10, 1), made)
    finding = judge_repetition(case, Options(quick=True))
    assert 60 < finding.interval[1] < 80
    assert verdict_of(finding) == verdict


@pytest.mark.parametrize(("apart", "verdict"), [(0.51, "pass"), (0.49, "cannot tell")])
def test_distance_of_twins(apart, verdict) -> None:
    """One pair of 40 volumes at so much of the distance of patients to the nearest other."""
    people, made = noise(110, 0), noise(40, 2)
    flat = people.reshape(len(people), -1)
    distance = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.fill_diagonal(distance, np.inf)
    typical = np.median(distance.min(axis=1))
    made[1] = made[0]
    made[1, 0, 0, 0] += apart * typical
    case = evidence(people[:100], people[100:], made)
    assert unplanted(judge_repetition(case, Options(quick=True))) == verdict


@pytest.mark.parametrize(("alike", "verdict"), [(6, "pass"), (5, "cannot tell")])
def test_pairs_of_patients_that_may_be_twins(alike, verdict) -> None:
    """1 in 1,000 of 5,995 pairs: with a sixth pair of them closer, 0.3 is no twins' distance."""
    people, made = noise(110, 0), noise(40, 2)
    flat = people.reshape(len(people), -1)
    distance = np.linalg.norm(flat[:, None] - flat, axis=-1)
    np.fill_diagonal(distance, np.inf)
    typical = np.median(distance.min(axis=1))
    for pair in range(alike):
        people[2 * pair + 1] = people[2 * pair]
        people[2 * pair + 1, 0, 0, 0] += 0.1 * typical
    made[1] = made[0]
    made[1, 0, 0, 0] += 0.3 * typical
    case = evidence(people[:100], people[100:], made)
    assert unplanted(judge_repetition(case, Options(quick=True))) == verdict


@pytest.mark.parametrize(
    ("patients", "made", "top", "verdict"),
    [
        (200, 60, 6, "pass"),
        (200, 60, 5, "cannot tell"),
        (2000, 3000, 450, "pass"),
        (2000, 3000, 449, "warn"),
    ],
)
def test_share_of_a_kind_of_patient(patients, made, top, verdict, monkeypatch) -> None:
    """A fifth of the generated volumes is expected in the patients' highest fifth.

    6 of 60 are at least a fifth of that (95 %), 449 of 3000 less than three quarters.
    """
    pair = (
        np.linspace(0, 1, patients),
        np.r_[np.linspace(0.805, 0.999, top), np.linspace(0, 0.795, made - top)],
    )
    monkeypatch.setattr("fastgan.audit.quality.kinds.axes_of", lambda *_: ({"axis": pair}, None))
    case = evidence(noise(20, 0), noise(20, 1), noise(made, 2))
    assert unplanted(judge_kinds(case, Options(quick=True))) == verdict


@pytest.mark.parametrize(("traits", "verdict"), [((), "cannot tell"), (("size",), "warn")])
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_what_was_measured_counts_more(seed, traits, verdict, monkeypatch) -> None:
    """A third of the largest fifth is there: beside eleven other axes, p is 0.1."""
    rng = np.random.default_rng(seed)
    axes = {f"axis {i}": (rng.standard_normal(100), rng.standard_normal(150)) for i in range(11)}
    made = np.r_[np.linspace(0.805, 1, 10), np.linspace(0, 0.795, 140)]
    axes["size"] = np.linspace(0, 1, 100), made
    monkeypatch.setattr("fastgan.audit.quality.kinds.axes_of", lambda *_: (axes, None))
    monkeypatch.setattr(Evidence, "traits", traits)
    case = evidence(noise(20, 0), noise(20, 1), noise(150, 2))
    assert unplanted(judge_kinds(case, Options(quick=True))) == verdict


@pytest.mark.parametrize(("missed", "verdict"), [(0.5, "cannot tell"), (0.7, "pass")])
def test_correlation_at_which_a_missing_fifth_must_be_found(missed, verdict, monkeypatch) -> None:
    """In pictures; in masks, whose size is measured, the trait is the axis."""
    told = lambda *given: given[3] is not None and given[3][0] != missed  # noqa: E731
    monkeypatch.setattr("fastgan.audit.quality.left_out._found", told)
    pair = np.linspace(0, 1, 200), np.linspace(0, 1, 300)
    monkeypatch.setattr("fastgan.audit.quality.kinds.axes_of", lambda *_: ({"axis": pair}, None))
    case = evidence(noise(20, 0), noise(20, 1), noise(300, 2))
    assert verdict_of(judge_kinds(case, Options(planted=20))) == verdict
    (only,) = (
        c
        for c in judge_kinds(replace(case, modality="mask"), Options(planted=20)).controls
        if c.expected == "found"
    )
    assert only.name.endswith("left out, by an axis") and only.decisive


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.85, "pass"), (1.0, "cannot tell"), (1.3, "warn")]
)
def test_deviations_that_a_spectrum_may_be_off(shift, verdict, monkeypatch) -> None:
    """One deviation between patients, at 95 % with 400 on either side: off by 0.1 or so."""

    def told(values):
        return np.c_[values[:, 0, 0, 0].astype(np.float64), np.zeros((len(values), 14))]

    monkeypatch.setattr("fastgan.audit.quality.spectrum.log_spectra", told)
    base = np.zeros((400, 8, 8, 8))
    base[:, 0, 0, 0] = np.random.default_rng(0).permutation(np.linspace(-1, 1, 400)) / 3**-0.5
    case = evidence(base[:200], base[200:], base + shift)
    assert unplanted(judge_spectrum(case, Options(quick=True))) == verdict


def reached(monkeypatch: pytest.MonkeyPatch, difference: np.ndarray) -> str:
    found = [np.zeros((2, len(difference))), np.stack([difference, np.zeros(len(difference))])]
    monkeypatch.setattr("fastgan.audit.quality.reach._mean_reached", lambda *_: found.pop(0))
    count = len(difference)
    case = evidence(noise(40, 0), noise(count, 1), noise(40, 2))
    features = np.random.default_rng(0).standard_normal((40, 9))
    finding = judge_coverage(
        case, Options(quick=True), features, features[:count], features, "Features."
    )
    return unplanted(finding)


@pytest.mark.parametrize(("missed", "verdict"), [(0.051, "warn"), (0.049, "pass")])
def test_share_of_patients_that_may_be_missed(missed, verdict, monkeypatch) -> None:
    assert reached(monkeypatch, np.full(20, -missed)) == verdict


@pytest.mark.parametrize(("spread", "verdict"), [(0.55, "pass"), (0.85, "cannot tell")])
def test_share_of_patients_whose_absence_is_excluded(spread, verdict, monkeypatch) -> None:
    """Of 20 patients the mean is 0 within 1.96 to 2.1 times the spread over the root of 20."""
    assert reached(monkeypatch, np.tile([-spread, spread], 10)) == verdict


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.74, "warn"), (0.8, "cannot tell"), (0.87, "pass")]
)
def test_variety(scale, verdict) -> None:
    held = np.random.default_rng(0).standard_normal((200, 12))
    case = evidence(noise(20, 0), noise(200, 1), noise(200, 2))
    assert verdict_of(judge_diversity(case, Options(), held, scale * held, "Features.")) == verdict


@pytest.mark.parametrize(
    ("value", "spread", "verdict"),
    [(0.974, 1.0, "pass"), (0.976, 1.0, "warn"), (0.5, 10.4, "pass"), (0.5, 10.6, "cannot tell")],
)
def test_distance_to_patients(value, spread, verdict, monkeypatch) -> None:
    """Patients lie 0 to 1 from other patients; the interval may reach ten such ranges above."""
    wing = sys.modules["fastgan.audit.quality.judge"]

    class Told:
        def __init__(self, *_: object) -> None:
            pass

        def value(self, *_: object) -> float:
            return value

        def resampled(self, *_: object) -> np.ndarray:
            return np.r_[np.full(10, spread), np.full(10, -spread)]

    monkeypatch.setattr(wing, "KernelDistance", Told)
    dealt = wing._Patients.floors
    monkeypatch.setattr(
        wing._Patients, "floors", lambda *given: (np.linspace(0, 1, 1001), dealt(*given)[1])
    )
    case = evidence(noise(30, 0), noise(30, 1), noise(30, 2))
    found = wing._compared(case, Options(quick=True))
    assert unplanted(found[0]) == verdict


# --- marks and sites, of patients


@pytest.mark.parametrize(("changed", "verdict"), [(50, "fail"), (60, "warn")])
def test_share_of_voxels_that_is_the_whole_picture(changed, verdict) -> None:
    """50 of 216 voxels are a mark of the scanner, which goes with the class; 60 are a picture."""
    rng = np.random.default_rng(0)
    truth = np.arange(80) % 2
    scanner = np.where(np.arange(80) % 10 < 2, 1 - truth, truth)
    values = 0.02 * rng.standard_normal((80, 6, 6, 6))
    values.reshape(80, -1)[:, :changed] += 0.5 * scanner[:, None]
    training = replace(
        cohort(values, labels=truth), columns={"scanner": np.where(scanner, "new", "old")}
    )
    case = Evidence(training, cohort(values[:2], "held-out"), None, UNIT, CLASSES)
    finding = judge_marks(case, Options(quick=True, permutations=199))
    (one,) = settle([finding], alpha=0.05)
    assert one.verdict == verdict and f"{changed} of 216 voxels" in one.sentence


@pytest.mark.parametrize(("missed", "verdict"), [(1.0, "cannot tell"), (0.5, "pass")])
def test_height_of_a_mark_that_must_be_found(missed, verdict, monkeypatch) -> None:
    """At one deviation; of what is found at half of it only the power curve tells."""
    wing = sys.modules["fastgan.audit.shortcuts.watermarks"]
    real = wing.find_marks

    def find(*given, **more):
        marks = real(*given, **more)
        p = {plant: np.full(20, float(plant[0] == missed)) for plant in marks.planted_p}
        return replace(marks, p=0.5, planted_p=p, quiet_p=np.full(20, 0.5))

    monkeypatch.setattr(wing, "find_marks", find)
    truth = np.arange(80) % 2
    values = 0.1 * np.random.default_rng(0).standard_normal((80, 6, 6, 6))
    case = Evidence(cohort(values, labels=truth), cohort(values[:2], "held-out"), None, UNIT)
    assert verdict_of(judge_marks(case, Options(planted=20, permutations=99))) == verdict


@pytest.mark.parametrize(("missed", "verdict"), [(0.8, "cannot tell"), (0.5, "pass")])
def test_offset_of_a_site_that_must_be_found(missed, verdict, monkeypatch) -> None:
    """At 0.8 deviations of the volumes' means, at the full number of patients."""
    wing = sys.modules["fastgan.audit.sites.differences"]
    turns = iter([effect for effect in wing.EFFECTS for _ in wing.SHARES])
    monkeypatch.setattr(wing, "_planted", lambda *_: [float(next(turns) == missed)] * 20)
    values = 0.1 * np.random.default_rng(0).standard_normal((160, 4, 4, 4))
    columns = {"site": np.where(np.arange(160) // 2 % 2, "north", "south")}
    training = replace(
        cohort(values[:120], labels=np.arange(120) % 2), columns={"site": columns["site"][:120]}
    )
    held = cohort(values[120:], "held-out", np.arange(40) % 2)
    held = replace(held, columns={"site": columns["site"][120:]})
    (finding,) = sites.judge(
        Evidence(training, held, None, UNIT, CLASSES), Options(planted=20, permutations=499)
    )
    assert verdict_of(replace(finding, p=0.5)) == verdict
