"""Translators whose truth is written down: each has to get the verdict that it deserves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.labels.alterations import smoothed
from fastgan.audit.phantoms.volumes import Recipe, phantoms
from fastgan.audit.translation.judge import judge
from fastgan.audit.translation.planted_lesions import (
    conspicuity,
    conspicuous_places,
    erased,
    planted,
)
from fastgan.errors import AuditError, NotAsked

RECIPE = Recipe(size=24, extent=36.0)
SUBJECTS = 36
UNIT = (1.5, 1.5, 1.5)


def true_map(values):
    """Lung and lesion as the phantoms' second contrast has them: a function of intensity alone."""
    return np.clip(0.35 - 1.1 * (values + 0.55), -1.0, 1.0).astype(np.float32)


def identity(values):
    return values


def inverter(values):
    return -true_map(values)


def eraser(values):
    """What is bright and small is replaced by its surroundings before all else."""
    wide = smoothed(values, 5.0)
    return true_map(np.where(values > wide + 0.25, wide, values).astype(np.float32))


def inserter(values):
    """A lesion of the second contrast where none was, in the corner that lesions leave alone."""
    out = true_map(values)
    return np.stack([planted(v, (6, 6, 6), 2.0, -6.0) for v in out])


@pytest.fixture(scope="module")
def drawn():
    first = phantoms(RECIPE, SUBJECTS, seed=1, both=True, name="held-out")
    other = phantoms(RECIPE, np.arange(1000, 1000 + SUBJECTS), seed=1, both=True)
    return first, other


def evidence(drawn, translate):
    first, other = drawn
    return Evidence(
        other.first,
        first.first,
        None,
        UNIT,
        modality="ct",
        about={"modality_b": "mr"},
        translate=translate,
        target=replace(other.second, name="target"),
        truth=first.second,
    )


def verdicts(drawn, translate):
    found = judge(evidence(drawn, translate), Options())
    return {s.finding.key: s.verdict for s in settle(found, alpha=0.05)}, found


def test_the_true_map_passes(drawn):
    verdict, found = verdicts(drawn, true_map)
    for key in ("contrast", "planted", "erased", "invented", "truth"):
        assert verdict[f"translation.{key}"] == "pass", key
    # Phantoms show no air, so nobody can say where the body was.
    assert verdict["translation.structure"] == "cannot tell"
    assert all(c.held for f in found for c in f.controls if f.key != "translation.structure")


def test_the_identity_misses_contrast_and_truth(drawn):
    verdict, _ = verdicts(drawn, identity)
    assert verdict["translation.contrast"] == "fail"
    assert verdict["translation.truth"] == "fail"
    assert {verdict[f"translation.{k}"] for k in ("planted", "erased", "invented")} == {"pass"}


def test_the_inverter_fails_contrast(drawn):
    verdict, _ = verdicts(drawn, inverter)
    assert verdict["translation.contrast"] == verdict["translation.truth"] == "fail"
    assert {verdict[f"translation.{k}"] for k in ("planted", "erased", "invented")} == {"pass"}


def test_the_eraser_loses_what_was_planted(drawn):
    verdict, _ = verdicts(drawn, eraser)
    assert verdict["translation.planted"] == "fail"
    assert verdict["translation.invented"] == "pass"
    # Nothing is left in its translations that could be taken out.
    assert verdict["translation.erased"] == "cannot tell"


def test_the_inserter_invents(drawn):
    verdict, _ = verdicts(drawn, inserter)
    assert verdict["translation.invented"] == "fail"
    assert verdict["translation.contrast"] == verdict["translation.erased"] == "pass"


def test_the_painter_draws_what_was_taken_out(drawn):
    """A translator that knows these patients: it returns the same whatever is taken out."""
    first, _ = drawn
    known = true_map(first.first.values)

    def painter(values):
        out = true_map(values)
        for i, value in enumerate(values):
            nearest = np.abs(first.first.values - value).mean((1, 2, 3)).argmin()
            out[i] = known[nearest]
        return out

    verdict, _ = verdicts(drawn, painter)
    assert verdict["translation.erased"] == "fail"
    assert verdict["translation.planted"] == "fail"


def body(count, seed):
    """Ellipsoids in air with texture: structure needs both."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij")
    inside = sum((a / h) ** 2 for a, h in zip(axes, (0.8, 0.65, 0.7), strict=True)) < 1
    texture = smoothed(rng.standard_normal((count, 24, 24, 24)).astype(np.float32), 2.0)
    return np.where(inside, np.clip(0.2 + 5 * texture, -0.6, 0.95), -1.0).astype(np.float32)


@pytest.mark.parametrize(
    ("translate", "expected"),
    [
        (lambda v: np.where(v > -0.9, -0.3 - v, -1.0).astype(np.float32), "pass"),
        (lambda v: -v, "fail"),
        (lambda v: np.roll(v, 4, axis=1), "fail"),
    ],
    ids=["contrast within the body", "negative", "moved"],
)
def test_structure(translate, expected):
    values = body(40, 3)
    who = np.array([f"P{i}" for i in range(40)])
    cohort = Cohort("held-out", values, who)
    found = judge(Evidence(cohort, cohort, None, UNIT, translate=translate), Options())
    settled = {s.finding.key: s for s in settle(found, alpha=0.05)}
    assert settled["translation.structure"].verdict == expected
    assert "translation.truth" not in settled and "translation.contrast" not in settled
    controls = settled["translation.structure"].finding.controls
    assert len(controls) == 3 and all(c.held for c in controls)


def test_anticorrelation_is_a_fault_between_like_modalities_alone(drawn):
    alike = replace(evidence(drawn, true_map), about={"modality_b": "ct"})
    found = {f.key: f for f in judge(alike, Options(quick=True))}
    assert found["translation.structure"].accepted.verdict == "fail"


def test_quick_plants_nothing_and_passes_only_what_needs_no_controls(drawn):
    found = judge(evidence(drawn, true_map), Options(quick=True))
    assert all(not f.controls for f in found)
    passed = {s.finding.key for s in settle(found, alpha=0.05) if s.verdict == "pass"}
    assert passed <= {"translation.truth"}


def test_a_truth_of_another_shape_is_refused(drawn):
    first, _ = drawn
    wrong = replace(first.second, values=first.second.values[:, 1:])
    with pytest.raises(AuditError, match="the truth is"):
        judge(replace(evidence(drawn, true_map), truth=wrong), Options(quick=True))


def test_needs_a_translator_and_patients(drawn):
    first, _ = drawn
    with pytest.raises(NotAsked, match="nothing here translates"):
        judge(replace(evidence(drawn, identity), translate=None), Options())
    few = first.first.subset(np.arange(3))
    with pytest.raises(AuditError, match="at least 5"):
        judge(replace(evidence(drawn, identity), holdout=few), Options())


def test_conspicuity_survives_linear_maps_and_finds_its_place():
    rng = np.random.default_rng(0)
    calm = (0.1 * rng.standard_normal((20, 20, 20)) - 0.3).astype(np.float32)
    ball = planted(calm, (9, 10, 11), 2.5, 6.0)
    seen = conspicuity(ball, (9, 10, 11), 2.5)
    assert seen == pytest.approx(6.0, rel=0.25)  # the ramp of the rim costs a little
    assert conspicuity(-0.8 * ball, (9, 10, 11), 2.5) == pytest.approx(-seen, rel=0.02)
    place = conspicuous_places(ball, 2.5, 1)[0]
    assert np.abs(np.subtract(place, (9, 10, 11))).max() <= 1
    gone = erased(ball, place, 2.5, rng)
    assert abs(conspicuity(gone, place, 2.5)) < 1.0
