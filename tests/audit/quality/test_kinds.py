"""Kinds of patient that are missing are found, or nobody says that they are there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.sources import HEAD
from bench.studies.truth.study import outcome
from bench.studies.truth.worlds import Setting, World
from fastgan.audit import quality
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Settled, settle
from fastgan.audit.quality.depletion import CUTS, Depletion, Ranked, ranks
from fastgan.audit.quality.kinds import judge_kinds
from fastgan.audit.quality.structures import structures
from fastgan.measures.shape import soft_ellipsoids
from tests.conftest import NO_HEAD

RNG = np.random.default_rng
SEVERAL = Setting("fields", 16, 200, "1-3", 2, tied=True)
LARGEST = FAULTS["largest lesions missing", "20 %"]


def judged(evidence: Evidence, **options: int) -> dict[str, Settled]:
    found = quality.judge(evidence, Options(**{"planted": 40, **options}))
    return {one.finding.key: one for one in settle(found, alpha=0.05)}


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_largest_lesions_of_pictures_never_pass(seed: int) -> None:
    """Lesions of two voxels radius: what the axes see of their size is half noise."""
    settled = judged(LARGEST.make(World(SEVERAL, seed)))
    verdicts = {key: one.verdict for key, one in settled.items()}
    assert outcome(LARGEST, verdicts) != "passed", settled["quality.kinds"].sentence


def masks(count: int, seed: int, name: str, drop: tuple[float, float] = (0.0, 1.0)) -> Cohort:
    """Nodules as masks; of generated ones only those between two quantiles of the volume."""
    rng = RNG(seed)
    labels = np.arange(2 * count) % 2
    volume = np.exp(6.0 + 0.5 * labels + 0.3 * rng.standard_normal(2 * count))
    low, high = np.quantile(volume, drop)
    kept = np.flatnonzero((volume >= low) & (volume <= high))[:count]
    aspect = np.exp(0.15 * rng.standard_normal((len(kept), 3)))
    values = 2 * soft_ellipsoids(volume[kept], (12, 12, 12), (1.0,) * 3, aspect=aspect) - 1
    return Cohort(name, values, np.array([f"{name}{i}" for i in range(len(kept))]), labels[kept])


@pytest.fixture(scope="module")
def nodules() -> Evidence:
    cohorts = [
        masks(n, s, name) for s, (n, name) in enumerate([(134, "training"), (66, "held-out")])
    ]
    generated = masks(300, 2, "generated")
    return Evidence(*cohorts, generated, (1.0,) * 3, ("benign", "malignant"), "mask")


def kinds(evidence: Evidence, made: Cohort, *, labelled: bool = True) -> Settled:
    made = made if labelled else dataclasses.replace(made, labels=None)
    case = dataclasses.replace(evidence, generated=made)
    return settle([judge_kinds(case, Options(planted=40))], alpha=0.05)[0]


def test_masks_whose_sizes_are_measured_pass(nodules: Evidence) -> None:
    """The trait is the axis itself, so 200 patients show that no fifth is missing."""
    one = kinds(nodules, nodules.require_generated())
    assert one.verdict == "pass", one.sentence
    assert [c.rate for c in one.finding.controls if c.expected == "found"] == [1.0]


@pytest.mark.parametrize("drop", [(0.0, 0.8), (0.2, 1.0), (0.1, 1.0)])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_largest_and_the_smallest_of_masks_are_found(nodules, drop, labelled) -> None:
    one = kinds(nodules, masks(300, 3, "generated", drop), labelled=labelled)
    assert one.verdict == "warn", one.sentence
    assert ("highest" if drop[0] == 0 else "lowest") in one.sentence


def test_a_class_thinned_to_a_third_is_found_unless_it_was_asked_for(nodules: Evidence) -> None:
    many = masks(600, 4, "generated")
    benign, malignant = (np.flatnonzero(many.labels == c) for c in (0, 1))
    made = many.subset(np.concatenate([benign[:225], malignant[:75]]))
    assert kinds(nodules, made, labelled=False).verdict == "warn"
    assert kinds(nodules, made).verdict in ("pass", "cannot tell")


def test_the_test_of_all_axes_has_its_size() -> None:
    """Twelve axes that go together, ties in some, two classes unequally often generated."""
    alarms, runs = 0, 300
    for run in range(runs):
        rng = RNG([7, run])
        strata = np.concatenate([np.arange(60) % 2, (np.arange(90) % 3 == 0).astype(int)])
        common = rng.standard_normal((150, 1)) + strata[:, None]
        values = common + 0.5 * rng.standard_normal((150, 12))
        values[:, :4] = np.maximum(values[:, :4], 0.5).round(1)
        found = Depletion.of(
            Ranked(values, strata),
            np.arange(150) >= 60,
            below=0.75,
            alpha=0.05,
            permutations=99,
            rng=rng,
        )
        alarms += found.p <= 0.05
    assert 4 <= alarms <= 27  # of 300, at 5 %: 99.9 % of the binomial


def test_what_is_fewer_is_named_with_its_ratio() -> None:
    patients = np.linspace(0, 1, 200)
    made = np.concatenate([np.linspace(0.0, 0.795, 285), np.linspace(0.805, 1.0, 15)])
    values = np.concatenate([patients, made])[:, None]
    found = Depletion.of(
        Ranked(np.c_[np.zeros(500), values], np.zeros(500, np.int64)),
        np.arange(500) >= 200,
        below=0.75,
        alpha=0.05,
        permutations=199,
        rng=RNG(0),
    )
    assert found.cell is not None and found.p == 1 / 200
    # 15 of 300 where 60 are expected; along the other axis all are equal.
    assert found.cell.axis == 1 and CUTS[found.cell.part][1] == 1.0
    assert found.cell.ratio == pytest.approx(0.25, abs=0.03)


def test_ranks_share_their_middle() -> None:
    assert ranks(np.array([[3.0], [1.0], [1.0], [9.0]]))[:, 0].tolist() == [
        0.625,
        0.25,
        0.25,
        0.875,
    ]
    among = ranks(np.array([[0.0], [2.0], [9.0]]), np.array([[1.0], [2.0]]))
    assert among[:, 0].tolist() == [0.0, 0.75, 1.0]


@pytest.mark.parametrize("size", [16, 24, 40])
def test_the_structure_that_stands_out_has_its_size_and_sign(size: int) -> None:
    radii = np.array([0.08, 0.12, 0.16, 0.2]) * size
    at = np.indices((size,) * 3) - (size - 1) / 2
    distance = np.sqrt(np.square(at).sum(axis=0))
    balls = np.clip(radii[:, None, None, None] + 0.5 - distance, 0, 1).astype(np.float32)
    read = structures(balls)
    assert (np.diff(read["size of the bright structure"]) > 0.1).all()
    dark = structures(-2 * balls)
    assert dark["size of the dark structure"] == pytest.approx(
        read["size of the bright structure"], abs=1e-4
    )
    assert dark["contrast of the dark structure"] == pytest.approx(
        2 * read["contrast of the bright structure"], rel=1e-4
    )
    flat = structures(np.zeros((1, size, size, size), np.float32))
    assert all(column.tolist() == [0.0] for column in flat.values())


MEASURED = Setting("fields", 16, 200, "1", measured=True)
# Both families' pictures tell sizes badly; with the sizes themselves nothing is left to see.
FAMILIES = [
    "fields",
    pytest.param("head", marks=pytest.mark.skipif(not HEAD.exists(), reason=NO_HEAD)),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_whose_lesions_were_measured_pass(family: str) -> None:
    settled = judged(World(dataclasses.replace(MEASURED, family=family), 5).evidence())
    assert {key: one.verdict for key, one in settled.items()} == dict.fromkeys(settled, "pass")
    one = settled["quality.kinds"]
    by = {c.name.rpartition("by ")[2]: c.rate for c in one.finding.controls}
    assert by["lesion size"] >= 0.9 and by["an axis"] >= 0.8
    assert "lesion size" in one.finding.limits and "--measured" not in one.finding.limits


def test_what_was_measured_is_needed_of_all_volumes() -> None:
    evidence = World(MEASURED, 5).evidence()
    bare = dataclasses.replace(evidence.require_generated(), traits={})
    assert dataclasses.replace(evidence, generated=bare).traits == ()
    assert kinds(evidence, bare).verdict != "pass"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fault", [LARGEST, FAULTS["smallest lesions missing", "20 %"]])
def test_sizes_that_are_missing_are_found_where_they_were_measured(family, fault) -> None:
    evidence = fault.make(World(dataclasses.replace(MEASURED, family=family), 5))
    one = kinds(evidence, evidence.require_generated())
    assert one.verdict == "warn", one.sentence
    assert "by lesion size" in one.sentence
