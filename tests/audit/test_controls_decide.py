"""Every judge rests on its controls: a missed fault forbids a pass, a false alarm any verdict.

The judges run on a clean set with the outcome of their controls dictated: what was planted is found
in all runs or in none, what has no fault alarms in none or in all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.studies.truth.faults import FAULTS
from bench.studies.truth.worlds import Setting, World
from fastgan.audit import controls
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import Settled, settle
from fastgan.audit.labels.classifier import train_ensemble
from fastgan.audit.phantoms.volumes import CLASSES, Lesion, Recipe, phantoms
from fastgan.audit.rules import whole
from tests.audit.membership.conftest import known_by

# The outcomes of controls are dictated, so more runs and permutations teach nothing.
OPTIONS = Options(planted=20, permutations=499)
WINGS = (
    *("memorization", "membership", "labels", "leakage", "shortcuts", "sites", "quality"),
    "translation",
)
REAL = {"found": controls.found, "quiet": controls.quiet}
DECIDED = ("pass", "warn", "fail")


def written(cohort: Cohort, folder: Path) -> Cohort:
    """With files on the disk, whose names and sizes tell nothing."""
    folder.mkdir()
    files = tuple(folder / f"{i:04d}.npy" for i in range(len(cohort)))
    for path in files:
        path.write_bytes(b"0")
    return replace(cohort, files=files)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Evidence:
    made = FAULTS["clean", ""].make(World(Setting(patients=360, sites=2, generated=120), 1))
    drawn = made.require_generated()

    def draw(numbers, label):
        return drawn.values[np.asarray(drawn.labels) == label][: len(numbers)]

    folder = tmp_path_factory.mktemp("files")
    return replace(made, training=written(made.training, folder / "t"), draw=draw)


def suited(wing: str, clean: Evidence) -> Evidence:
    """What a wing needs of the set, and not more, for the sake of time."""
    if wing == "translation":
        return translating(clean)
    if wing == "memorization":
        return clean
    if wing == "membership":
        return known_by(clean)
    if wing == "labels":
        return readable()
    some = np.isin(clean.training.subjects, np.unique(clean.training.subjects)[:70])
    few = np.isin(clean.holdout.subjects, np.unique(clean.holdout.subjects)[:50])
    return replace(clean, training=clean.training.subset(some), holdout=clean.holdout.subset(few))


def readable() -> Evidence:
    """Smooth small against spiculated larger lesions: a short training tells them apart."""
    small, large = Lesion(radius=2.0, spread=0.1), Lesion(radius=3.2, spread=0.1, spiculation=0.6)
    recipe = Recipe(size=16, extent=24.0, lesions=(small, large))

    def some(first: int, count: int, name: str) -> Cohort:
        return phantoms(recipe, np.arange(first, first + count), seed=1, name=name).first

    return Evidence(
        some(0, 90, "training"),
        some(1000, 100, "held-out"),
        some(2000, 200, "generated"),
        (1.5, 1.5, 1.5),
        CLASSES,
        "ct",
        augmentations=("flip", "rotate"),
    )


def translating(clean: Evidence) -> Evidence:
    """The same patients with a translator that draws the source's intensities otherwise."""
    few = replace(clean.holdout.subset(np.arange(40)), name="held-out")

    def translate(volumes):
        return np.clip(0.9 * volumes + 0.05, -1.0, 1.0).astype(np.float32)

    target = replace(clean.holdout.subset(np.arange(40, 80)), name="held-out of domain B")
    truth = replace(few, name="truth", values=translate(few.values))
    return replace(
        clean,
        holdout=few,
        generated=None,
        translate=translate,
        target=replace(target, values=translate(target.values)),
        truth=truth,
        about={"modality_b": clean.modality},
    )


@pytest.fixture(scope="module")
def judged(clean) -> Callable[[str, str], dict[str, Settled]]:
    """(wing, how the controls come out) -> its findings, settled; each is made once."""
    known: dict[tuple[str, str], dict[str, Settled]] = {}

    def dictated(expected: str, how: str) -> Callable[..., Any]:
        hits_all = how == "alarmed" if expected == "quiet" else how != "missed"

        def made(name, hits, runs, **rules):
            runs = max(runs, 20)
            return REAL[expected](name, runs if hits_all else 0, runs, **rules)

        return made

    def judge(wing: str, how: str) -> dict[str, Settled]:
        if (wing, how) not in known:
            with pytest.MonkeyPatch.context() as patch:
                # A short training: how well the classifier reads is not asked here.
                where = "fastgan.audit.labels.instrument.train_ensemble"
                patch.setattr(where, lambda *given, steps: train_ensemble(*given, steps=30))
                for expected in REAL:
                    patch.setattr(controls, expected, dictated(expected, how))
                evidence = suited(wing, clean)
                findings = importlib.import_module(f"fastgan.audit.{wing}").judge(evidence, OPTIONS)
            settled = settle(findings, alpha=OPTIONS.alpha)
            known[wing, how] = {one.finding.key: one for one in settled}
        return known[wing, how]

    return judge


@pytest.mark.parametrize("wing", WINGS)
def test_a_pass_needs_a_planted_fault_or_a_reason_why_none(judged, wing) -> None:
    found = judged(wing, "held")
    assert any(one.verdict == "pass" for one in found.values()), {
        key: one.sentence for key, one in found.items()
    }
    for key, one in found.items():
        planted = [c for c in one.finding.controls if c.expected == "found" and c.decisive]
        if one.verdict == "pass":
            assert planted or one.finding.by_construction, key
        if one.finding.power:
            assert any(c.expected == "found" for c in one.finding.controls), key
        if one.finding.p is not None and one.verdict in DECIDED:
            assert planted, f"{key} has a p-value and plants nothing"


@pytest.mark.parametrize("wing", WINGS)
def test_a_missed_fault_forbids_a_pass(judged, wing) -> None:
    held, missed = judged(wing, "held"), judged(wing, "missed")
    assert held.keys() == missed.keys()
    for key, one in held.items():
        planted = [c for c in one.finding.controls if c.expected == "found" and c.decisive]
        if one.verdict == "pass" and planted:
            assert missed[key].verdict == "cannot tell", key
            assert any(f"({c.name})" in missed[key].sentence for c in planted), key
            assert "0% of" in missed[key].sentence, key
        elif one.verdict in ("warn", "fail"):
            assert missed[key].verdict == one.verdict, key


@pytest.mark.parametrize("wing", WINGS)
def test_a_false_alarm_forbids_any_verdict(judged, wing) -> None:
    held, alarmed = judged(wing, "held"), judged(wing, "alarmed")
    seen = 0
    for key, one in held.items():
        quiet = [c for c in one.finding.controls if c.expected == "quiet" and c.decisive]
        if one.verdict in DECIDED:
            assert (alarmed[key].verdict == "cannot tell") == bool(quiet), key
        if quiet and one.verdict in DECIDED:
            seen += 1
            assert any(f"({c.name})" in alarmed[key].sentence for c in quiet), key
    assert seen or wing in WITHOUT_QUIET


WITHOUT_QUIET = ("quality",)
"""Wings none of whose findings has a control that must stay quiet."""


def test_no_audit_makes_more_tests_than_power_is_stated_for(judged) -> None:
    """Wings beside translation, which is judged by itself; sites and scanners are two questions."""
    asked = [one for wing in WINGS[:-1] for one in judged(wing, "held").values()]
    assert sum(one.finding.p is not None for one in asked) + 1 <= whole("audit.tests")
