"""Does augmentation change labels? Flips and drift of the classifier are certified to be small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastgan.arrays import Floats, Texts
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import (
    Control,
    Finding,
    Outcome,
    Question,
    Table,
    cannot_tell,
    not_asked,
)
from fastgan.audit.labels.alterations import AUGMENTATIONS, DESTROYERS, alter, destroy, wobbled
from fastgan.audit.labels.instrument import POWER, Instrument
from fastgan.audit.labels.invariance import (
    DELTA,
    Effect,
    Readings,
    chance_to_refute,
    effect,
    smallest_certifiable,
)
from fastgan.audit.statistics import clopper_pearson

__all__ = ["Panel", "judge_augmentation", "listed", "panel_of"]

QUESTION = Question(
    "labels", "labels.augmentation", "Does augmentation change what label a volume should have?"
)
WOBBLES = 5
MOST_SUBJECTS = 1000
CHUNK = 64  # volumes altered at once
ERASED_SHARES = (0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Panel:
    """One volume of each subject, training subjects being read by who never saw them."""

    tool: Instrument
    values: Floats
    subjects: Texts
    readings: Readings
    """Before anything is done, and after harmless changes."""

    def read(self, change: Callable[[Floats], Floats]) -> Floats:
        """[N, K] probabilities after a change, which is given some volumes at a time."""
        parts = [slice(i, i + CHUNK) for i in range(0, len(self.values), CHUNK)]
        reader = self.tool.ensemble.probabilities
        return np.concatenate([reader(change(self.values[p]), self.subjects[p]) for p in parts])


def judge_augmentation(evidence: Evidence, options: Options, tool: Instrument) -> Finding:
    """Finding labels.augmentation: every augmentation and every control, a volume per subject."""
    panel = panel_of(evidence, options, tool)
    readings = panel.readings
    draws = options.rng("labels/augmentation")
    effects = {
        name: effect(
            readings,
            panel.read(partial(alter, name, rng=draws, spacing=evidence.spacing)),
        )
        for name in AUGMENTATIONS
    }
    harmless = effect(readings, panel.read(partial(wobbled, rng=draws)))
    said = evidence.augmentations
    used = [name for name in AUGMENTATIONS if said and name in said]
    unknown = sorted(set(said or ()) - set(AUGMENTATIONS))
    planted: tuple[Control, ...] = ()
    tables = [_table(evidence, effects, harmless, used)]
    if not options.quick:
        ruined = {
            name: effect(
                readings,
                panel.read(partial(destroy, name, modality=evidence.modality)),
            )
            for name in DESTROYERS
        }
        tables.append(_table(evidence, ruined, harmless, list(ruined), controls=True))
        planted = _controls(ruined, harmless, len(used), options)
    worst = max(used or effects, key=lambda name: effects[name].certified())
    flipped, decided = (int(n.sum()) for n in (effects[worst].flipped, effects[worst].decided))
    least = smallest_certifiable(effects[worst].decided)
    return Finding(
        *QUESTION,
        _outcome(tool, effects, used, unknown, evidence.classes)
        if said
        else not_asked(
            "the run used no augmentation"
            if said is not None
            else "how another program augmented volumes while training is not known"
        ),
        value=flipped / max(decided, 1),
        value_name=f"share of patients whose class flips ({worst})",
        interval=clopper_pearson(flipped, max(decided, 1)),
        floor=float(harmless.flipped.sum()) / max(int(harmless.decided.sum()), 1),
        floor_name="the same after a harmless change",
        n_volumes=len(panel.values),
        n_subjects=len(panel.values),
        power=_power(planted, least),
        controls=planted,
        tables=tuple(tables),
        methods=(
            "One volume of each subject, one draw of each augmentation; training subjects are read "
            f"by the member that never saw them. A subject that {WOBBLES} harmless changes (parts "
            "of a voxel and back, noise of 0.5 % of the range) flip is undecided and left out. Per "
            "true class: one-sided 95 % Clopper-Pearson bound of flips, one-sided 95 % bound of "
            "the mean drift of the calibrated probability of the true class against harmless "
            f"changes; certified when both are at most {DELTA:.0%} in every class, refuted when "
            f"one is surely above it, corrected for classes and augmentations. "
            f"{tool.ensemble.provenance}."
        ),
        limits=(
            f"{int((~readings.decided).sum())} of {len(readings.labels)} patients are undecided: "
            "for them the classifier says nothing. A change of what it never looks at goes unseen. "
            "It was taught that a shift changes nothing."
        ),
    )


def listed(names: list[str]) -> str:
    """Names as English: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def panel_of(evidence: Evidence, options: Options, tool: Instrument) -> Panel:
    """Draw one volume of each subject of both splits and read them, as they are and wobbled."""
    rng = options.rng("labels/panel")
    sets = (evidence.training, evidence.holdout)
    subjects = np.concatenate([s.subjects for s in sets])
    labels = np.concatenate([np.asarray(s.labels) for s in sets])
    order = rng.permutation(len(labels))
    chosen = order[np.unique(subjects[order], return_index=True)[1]]
    chosen = np.sort(rng.permutation(chosen)[:MOST_SUBJECTS])
    first = len(evidence.training)
    values = np.concatenate(
        [
            evidence.training.values[chosen[chosen < first]],
            evidence.holdout.values[chosen[chosen >= first] - first],
        ]
    )
    subjects, labels = subjects[chosen], labels[chosen]
    before = tool.ensemble.probabilities(values, subjects)
    plain = Panel(tool, values, subjects, Readings(labels, before, before[None]))
    draws = options.rng("labels/wobble")
    harmless = np.stack([plain.read(partial(wobbled, rng=draws)) for _ in range(WOBBLES)])
    return Panel(tool, values, subjects, Readings(labels, before, harmless))


def _outcome(
    tool: Instrument,
    effects: dict[str, Effect],
    used: list[str],
    unknown: list[str],
    classes: tuple[str, ...],
) -> Outcome:
    if tool.weak:
        return cannot_tell(tool.weak)
    broken = [name for name in used if effects[name].refuted(len(used))]
    if broken:
        found = effects[broken[0]]
        worst = int(np.argmax(np.nan_to_num(found.rate)))
        return Outcome(
            "fail",
            f"{listed(broken)} changes labels: after {broken[0]} the class of "
            f"{found.flipped[worst]} of {found.decided[worst]} {classes[worst]} patients flips.",
        )
    if unknown:
        return cannot_tell(f"{listed(unknown)} is not known here")
    bound = max(effects[name].certified() for name in used)
    open_ones = [name for name in used if effects[name].certified() > DELTA]
    if not open_ones:
        return Outcome(
            "pass",
            f"No evidence of labels changed by {listed(used)}: in every class at most "
            f"{bound:.1%} of patients flip and no probability drifts further (95 %).",
        )
    return Outcome(
        "cannot tell",
        f"Cannot tell whether {listed(open_ones)} keeps labels: flips or drift are certified to "
        f"be at most {bound:.1%} only, {DELTA:.0%} is asked.",
    )


def _table(
    evidence: Evidence,
    effects: dict[str, Effect],
    harmless: Effect,
    used: list[str],
    *,
    controls: bool = False,
) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, found in {**effects, "harmless change": harmless}.items():
        upper, reach = found.upper(), found.drift_reach()
        if name == "harmless change":
            verdict = ""
        elif found.refuted(max(1, len(used))):
            verdict = "labels change"
        else:
            verdict = "certified" if found.certified() <= DELTA else "open"
        for c, klass in enumerate(evidence.classes):
            rows.append(
                (
                    name,
                    klass,
                    f"{found.flipped[c]} of {found.decided[c]}",
                    f"{upper[c]:.1%}",
                    f"{100 * found.drift[c]:+.1f}",
                    f"{100 * reach[c]:.1f}",
                    f"{found.raw:.1%}",
                    verdict,
                )
            )
    title = "Controls: what must change labels" if controls else "Flips and drift by augmentation"
    used_here = listed(used) if used else "none"
    return Table(
        title,
        (
            "change",
            "true class",
            "decided patients that flip",
            "at most (95 %)",
            "drift, points",
            "drift at most",
            "all that flip",
            "verdict",
        ),
        tuple(rows),
        note="" if controls else f"Used by the run: {used_here}.",
    )


def _controls(
    ruined: dict[str, Effect], harmless: Effect, used: int, options: Options
) -> tuple[Control, ...]:
    # A run without augmentation has changed no label, whatever the classifier sees.
    tests, decisive = max(1, used), used > 0
    rng, runs = options.rng("labels/controls"), options.planted
    planted: list[Control] = []
    for name, destroyed in ruined.items():
        hits = chance_to_refute(destroyed, rng, runs, tests=tests)
        said = f"augmentation with {name}"
        planted.append(controls.found(said, hits, runs, at_least=POWER, decisive=decisive))
    hits = chance_to_refute(harmless, rng, runs, tests=tests)
    quiet = controls.quiet(
        "harmless change", hits, runs, at_most=1 - POWER, by="rate", decisive=decisive
    )
    planted.append(quiet)
    for share in ERASED_SHARES:
        hits = chance_to_refute(ruined["lesion erased"], rng, runs, share=share, tests=tests)
        said = f"lesion erased in {share:.0%}"
        planted.append(controls.found(said, hits, runs, at_least=POWER, decisive=False))
    return tuple(planted)


def _power(planted: tuple[Control, ...], least: float) -> str:
    curve = [c for c in planted if c.name.startswith("lesion erased in")]
    if not curve:
        return ""
    shares = ", ".join(f"{c.name.rsplit(' ', 1)[1]}: {c.rate:.0%}" for c in curve)
    return (
        f"erasing the lesion of a share of patients is found with power ({shares}); the smallest "
        f"flip rate that could be certified here is {least:.1%}"
    )
